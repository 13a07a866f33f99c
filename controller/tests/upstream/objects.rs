//! The objects of a cluster as they come, change and go, from step to step.

use std::collections::BTreeMap;
use std::fs;

use controller::cluster;
use controller::source::{self, Loaded, Sourced};
use policy_compiler::api::{Object, ObjectMeta};
use policy_compiler::model::Cluster;
use policy_compiler::validate::Options;

use super::case::{FOLDER, Step};

/// Kind, namespace and name.
type Key = (String, String, String);

#[derive(Clone)]
pub(crate) struct Objects(BTreeMap<Key, Sourced>);

impl Objects {
    /// What every case starts with.
    pub(crate) fn fixture() -> Self {
        let path = format!("{FOLDER}/fixture.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let objects = load(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self(objects.map(|object| (key(&object), object)).collect())
    }

    pub(crate) fn apply(&mut self, step: &Step) -> Result<(), String> {
        for manifests in &step.manifests {
            // The loader also makes up what policies name.
            let is_policy = |object: &Sourced| matches!(object.object, Object::NetworkPolicy(_));
            let policies = load(manifests)?.filter(is_policy);
            self.0.extend(policies.map(|object| (key(&object), object)));
        }
        let mut commands = step.commands.iter();
        commands.try_for_each(|command| self.command(command).ok_or_else(|| unknown(command)))
    }

    /// Does what kubectl would. Nothing if the command is none of those below, or names what is not there.
    fn command(&mut self, command: &str) -> Option<()> {
        let words: Vec<_> = command.split(' ').collect();
        let key = |kind: &str, namespace: &str, name: &str| {
            (kind.to_owned(), namespace.to_owned(), name.to_owned())
        };
        match words[..] {
            ["kubectl", "label", "namespace", name, label] => {
                self.label(&key("Namespace", "", name), label)
            }
            ["kubectl", "-n", namespace, "label", "pod", name, label] => {
                self.label(&key("Pod", namespace, name), label)
            }
            ["kubectl", "-n", namespace, "delete", "networkpolicy", name] => {
                let removed = self.0.remove(&key("NetworkPolicy", namespace, name));
                removed.map(drop)
            }
            _ => None,
        }
    }

    fn label(&mut self, key: &Key, label: &str) -> Option<()> {
        let (name, value) = label.split_once('=')?;
        let labels = match &mut self.0.get_mut(key)?.object {
            Object::Namespace(object) => labels(&mut object.metadata),
            Object::Pod(object) => labels(&mut object.metadata),
            Object::Node(_) | Object::NetworkPolicy(_) => return None,
        };
        labels.insert(name.to_owned(), value.to_owned());
        Some(())
    }

    /// As the API server would take them, or why it would not.
    pub(crate) fn cluster(&self) -> Result<Cluster, String> {
        let loaded = Loaded {
            objects: self.0.values().cloned().collect(),
            ..Loaded::default()
        };
        cluster::build(&loaded, Options::default()).map_err(|errors| errors.to_string())
    }
}

fn unknown(command: &str) -> String {
    format!("{command:?} is unknown, or what it names is")
}

fn load(text: &str) -> Result<impl Iterator<Item = Sourced> + use<>, String> {
    let loaded = source::load_bytes([("manifest", text.as_bytes())]);
    let loaded = loaded.map_err(|errors| errors.to_string())?;
    Ok(loaded.objects.into_iter())
}

fn key(sourced: &Sourced) -> Key {
    let metadata = sourced.object.metadata();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let kind = sourced.object.kind().to_owned();
    (kind, text(&metadata.namespace), text(&metadata.name))
}

fn labels(metadata: &mut ObjectMeta) -> &mut BTreeMap<String, String> {
    metadata.labels.get_or_insert_default()
}

#[test]
fn commands_that_would_fail_are_refused() {
    for command in [
        "kubectl label namespace w ns2=updated",
        "kubectl label namespace x ns2",
        "kubectl -n x label pod d pod2=updated",
        "kubectl -n x delete networkpolicy none",
        "kubectl -n x delete pod a",
    ] {
        assert_eq!(Objects::fixture().command(command), None, "{command}");
    }
}
