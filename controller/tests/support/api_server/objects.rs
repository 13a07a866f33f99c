//! Objects in the API server, from manifests.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::ApiServer;

impl ApiServer {
    /// Makes or changes the objects so that they are as the YAML documents say, with the status that they have there.
    pub(crate) fn apply(&self, manifests: &str) {
        self.ask(async |client| apply(&client, manifests).await);
    }

    /// Deletes the objects of the YAML documents, at once.
    pub(crate) fn delete(&self, manifests: &str) {
        self.ask(async |client| delete(&client, manifests).await);
    }

    pub(super) fn apply_objects(&self, objects: Vec<Value>) {
        self.ask(async |client| apply_objects(&client, objects).await);
    }
}

/// [`ApiServer::apply`] by a client that there is already.
pub(crate) async fn apply(client: &Client, manifests: &str) {
    apply_objects(client, documents(manifests)).await;
}

/// [`ApiServer::delete`] by a client that there is already.
pub(crate) async fn delete(client: &Client, manifests: &str) {
    for object in documents(manifests) {
        let (api, object) = typed(client, object);
        let now = DeleteParams::default().grace_period(0);
        api.delete(&object.name_any(), &now).await.unwrap();
    }
}

async fn apply_objects(client: &Client, objects: Vec<Value>) {
    // By server-side apply: what a former call said and this one does not is taken away.
    let params = PatchParams::apply("test").force();
    for mut object in objects {
        let status = object.as_object_mut().unwrap().remove("status");
        let (api, object) = typed(client, object);
        let name = object.name_any();
        let patch = Patch::Apply(&object);
        api.patch(&name, &params, &patch).await.unwrap();
        if let Some(status) = status {
            // Server-side apply refuses a Node with two addresses of one type, which dual-stack ones have.
            let (params, patch) = (PatchParams::default(), json!({"status": status}));
            let patch = Patch::Merge(&patch);
            api.patch_status(&name, &params, &patch).await.unwrap();
        }
    }
}

fn documents(manifests: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifests).unwrap()
}

fn typed(client: &Client, object: Value) -> (Api<DynamicObject>, DynamicObject) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types: &TypeMeta = object.types.as_ref().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types).unwrap());
    let api = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, object)
}
