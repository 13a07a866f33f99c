//! Values that are refused, and where that is said.

use std::fs;

use serde_json::{Value, json};

use crate::helm::{CHART, HELMS, template, template_by};

fn schema() -> Value {
    let text = fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What is set, and where and how it is refused.
const WRONG: &[(&str, &str, &str)] = &[
    ("nameOverride=Picket", "/nameOverride", "pattern"),
    ("fullnameOverride=a.b", "/fullnameOverride", "pattern"),
    ("commonLabels.a=b c", "/commonLabels/a", "pattern"),
    ("platform=k4s", "/platform", "must be one of"),
    ("k8sServiceHost=https://x", "/k8sServiceHost", "pattern"),
    ("k8sServicePort=0", "/k8sServicePort", "minimum"),
    ("k8sServicePort=65536", "/k8sServicePort", "maximum"),
    ("image.registry=a b", "/image/registry", "pattern"),
    ("image.repository=", "/image/repository", "pattern"),
    ("image.tag=a/b", "/image/tag", "pattern"),
    ("image.digest=sha256:abc", "/image/digest", "pattern"),
    (
        "image.pullPolicy=Sometimes",
        "/image/pullPolicy",
        "must be one of",
    ),
    ("image.name=picket", "/image", "'name' not allowed"),
    (
        "imagePullSecrets[0]=secret",
        "/imagePullSecrets/0",
        "got string, want object",
    ),
    (
        "imagePullSecrets[0].secret=a",
        "/imagePullSecrets/0",
        "missing property 'name'",
    ),
    (
        "agent.nodeEgress=deny",
        "/agent/nodeEgress",
        "must be one of",
    ),
    (
        "agent.bridges[0]=a-name-of-16-chr",
        "/agent/bridges/0",
        "pattern",
    ),
    (
        "agent.bridges=cni0",
        "/agent/bridges",
        "got string, want array",
    ),
    (
        "agent.setBridgeNetfilter=1",
        "/agent/setBridgeNetfilter",
        "want boolean",
    ),
    (
        "agent.revocation=cut",
        "/agent/revocation",
        "must be one of",
    ),
    (
        "agent.ownTables=always",
        "/agent/ownTables",
        "must be one of",
    ),
    ("agent.budget.pods=1", "/agent/budget", "'pods' not allowed"),
    ("agent.budget.rules=-1", "/agent/budget/rules", "minimum"),
    ("agent.runDir=run/picket", "/agent/runDir", "pattern"),
    ("agent.runDir=/", "/agent/runDir", "pattern"),
    ("agent.runDir=/run/../etc", "/agent/runDir", "pattern"),
    ("extraArgs[0]=stray", "/extraArgs/0", "pattern"),
    (
        "extraEnv[0].value=1",
        "/extraEnv/0",
        "missing property 'name'",
    ),
    ("extraEnv[0].name=a=b", "/extraEnv/0/name", "pattern"),
    ("log.level=trace", "/log/level", "must be one of"),
    ("log.format=xml", "/log/format", "must be one of"),
    (
        "metrics.bindAddress=localhost",
        "/metrics/bindAddress",
        "pattern",
    ),
    (
        "metrics.bindAddress=999.1.1.1",
        "/metrics/bindAddress",
        "pattern",
    ),
    ("metrics.bindAddress=:::", "/metrics/bindAddress", "pattern"),
    (
        "metrics.bindAddress=::ffff:10.0.0.1",
        "/metrics/bindAddress",
        "pattern",
    ),
    ("metrics.port=http", "/metrics/port", "want integer"),
    ("metrics.enabled=true", "/metrics", "'enabled' not allowed"),
    (
        "metrics.podMonitor.interval=often",
        "/metrics/podMonitor/interval",
        "pattern",
    ),
    (
        "metrics.podMonitor.enabled=maybe",
        "/metrics/podMonitor/enabled",
        "want boolean",
    ),
    (
        "metrics.prometheusRule.namespace=x",
        "/metrics/prometheusRule",
        "'namespace' not allowed",
    ),
    (
        "metrics.dashboard.labels=x",
        "/metrics/dashboard/labels",
        "want object",
    ),
    ("cni.instal=true", "/cni", "'instal' not allowed"),
    ("cni.confDir=etc/cni", "/cni/confDir", "pattern"),
    ("cni.confDir=/etc/cni/net.d/", "/cni/confDir", "pattern"),
    ("cni.extraConfDirs[0]=", "/cni/extraConfDirs/0", "pattern"),
    (
        "cni.extraConfDirs[0]=/etc/cni/./net.d",
        "/cni/extraConfDirs/0",
        "pattern",
    ),
    ("cni.binDir=/", "/cni/binDir", "pattern"),
    ("cni.confName=../10-a.conflist", "/cni/confName", "pattern"),
    ("cni.confName=10-a.yaml", "/cni/confName", "pattern"),
    (
        "cni.onAgentUnavailable=open",
        "/cni/onAgentUnavailable",
        "must be one of",
    ),
    ("cni.timeoutSeconds=121", "/cni/timeoutSeconds", "maximum"),
    ("cni.timeoutSeconds=0", "/cni/timeoutSeconds", "minimum"),
    (
        "cni.excludeNamespaces[0]=Kube",
        "/cni/excludeNamespaces/0",
        "pattern",
    ),
    (
        "cni.resources.limit.cpu=1",
        "/cni/resources",
        "'limit' not allowed",
    ),
    ("cleanup.timeout=soon", "/cleanup/timeout", "pattern"),
    ("cleanup.timeout=0s", "/cleanup/timeout", "pattern"),
    ("cleanup.timeout=9999999s", "/cleanup/timeout", "pattern"),
    (
        "cleanup.timeout=null",
        "/cleanup",
        "missing property 'timeout'",
    ),
    (
        "cleanup.purgeAfterSeconds=-1",
        "/cleanup/purgeAfterSeconds",
        "minimum",
    ),
    ("test.enabled=yes please", "/test/enabled", "want boolean"),
    (
        "test.tolerations[0].efect=NoSchedule",
        "/test/tolerations/0",
        "'efect' not allowed",
    ),
    (
        "serviceAccount.name=Agent",
        "/serviceAccount/name",
        "pattern",
    ),
    (
        "serviceAccount.annotations.a=1",
        "/serviceAccount/annotations/a",
        "want string",
    ),
    ("rbac.create=x", "/rbac/create", "want boolean"),
    (
        "checks.otherRelease=never",
        "/checks/otherRelease",
        "must be one of",
    ),
    (
        "checks.otherEngines=no",
        "/checks/otherEngines",
        "must be one of",
    ),
    ("podLabels.a=-b", "/podLabels/a", "pattern"),
    (
        "podAnnotations.a b=c",
        "/podAnnotations",
        "'a b' not allowed",
    ),
    (
        "resources.limits.memory=lots",
        "/resources/limits/memory",
        "pattern",
    ),
    (
        "resources.limits.gpu=1",
        "/resources/limits",
        "'gpu' not allowed",
    ),
    ("nodeSelector.a=true", "/nodeSelector/a", "want string"),
    (
        "tolerations[0].operator=Is",
        "/tolerations/0/operator",
        "must be one of",
    ),
    (
        "tolerations[0].efect=NoSchedule",
        "/tolerations/0",
        "'efect' not allowed",
    ),
    (
        "affinity.nodeAfinity.x=1",
        "/affinity",
        "'nodeAfinity' not allowed",
    ),
    ("priorityClassName=High", "/priorityClassName", "pattern"),
    (
        "updateStrategy.type=Recreate",
        "/updateStrategy/type",
        "must be one of",
    ),
    (
        "updateStrategy.rollingUpdate.maxUnavailable=101%",
        "/updateStrategy/rollingUpdate/maxUnavailable",
        "pattern",
    ),
    (
        "updateStrategy.rollingUpdate.maxUnavailable=0",
        "/updateStrategy/rollingUpdate/maxUnavailable",
        "minimum",
    ),
    (
        "updateStrategy.rollingUpdate.maxUnavailable=0%",
        "/updateStrategy/rollingUpdate/maxUnavailable",
        "pattern",
    ),
    (
        "updateStrategy.rollingUpdate.maxSurge=1",
        "/updateStrategy/rollingUpdate",
        "'maxSurge' not allowed",
    ),
    (
        "terminationGracePeriodSeconds=-1",
        "/terminationGracePeriodSeconds",
        "minimum",
    ),
    (
        "seLinuxOptions.kind=x",
        "/seLinuxOptions",
        "'kind' not allowed",
    ),
    ("global=x", "/global", "want object"),
    ("replicas=1", "", "'replicas' not allowed"),
];

#[test]
fn a_wrong_value_is_refused_and_its_path_is_said() {
    let mut wrong = Vec::new();
    for ((value, path, why), helm) in WRONG.iter().flat_map(|of| HELMS.map(|helm| (of, helm))) {
        // The older has another validator, with words and paths of its own.
        let (place, why) = match helm {
            "helm-3.12" if path.is_empty() => ("- (root): ".to_owned(), ""),
            "helm-3.12" => (format!("- {}: ", path[1..].replace('/', ".")), ""),
            _ => (format!("at '{path}'"), *why),
        };
        let error = template_by(helm, CHART, &["--set", value])
            .err()
            .unwrap_or_default();
        let mut lines = error.lines();
        if !lines.any(|line| line.contains(&place) && line.contains(why)) {
            wrong.push(format!("{helm}, {value}: not {place}, {why}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One bit of 32, as the program takes it.
#[test]
fn a_mark_is_one_bit() {
    for bit in ["0x1", "0x100000", "0x80000000", "0x00200000"] {
        let value = format!("agent.markBit={bit}");
        template(&["--set-string", &value]).unwrap_or_else(|error| panic!("{bit}: {error}"));
    }
    for wrong in ["0", "0x0", "0x3", "0x", "-1", "0x100000000", "1048576", ""] {
        let value = format!("agent.markBit={wrong}");
        let error = template(&["--set-string", &value]).expect_err(wrong);
        assert!(error.contains("at '/agent/markBit'"), "{wrong}: {error}");
    }
}

/// As Rust reads it, and so the program; but for those of IPv6 that end as those of IPv4.
#[test]
fn an_address_is_one_of_ipv4_or_ipv6() {
    let schema = schema();
    let schema = &schema["properties"]["metrics"]["properties"]["bindAddress"];
    let schema = jsonschema::draft7::new(schema).unwrap();
    let parts = ["", "0", "1", "9f", "12345", "255", "256", "01", "::", "g"];
    let joined = |by: &str, count: usize, index: usize| {
        let digit = |at: usize| parts[index / parts.len().pow(at as u32) % parts.len()];
        (0..count).map(digit).collect::<Vec<_>>().join(by)
    };
    let four = (0..10_000).map(|index| joined(".", 4, index));
    let six = (2..=9).flat_map(|count| {
        let step = [1, 1, 1, 1, 1, 7, 77, 777, 7777, 77_777][count];
        let of = (0..10_usize.pow(count as u32)).step_by(step);
        of.map(move |index| joined(":", count, index))
    });
    let mut taken = 0;
    for text in four.chain(six) {
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        assert_eq!(schema.is_valid(&json!(text)), is_address, "{text}");
        taken += usize::from(is_address);
    }
    assert!(taken > 1000, "{taken}");
}

/// Numbers of YAML too, as helm reads them.
#[test]
fn half_a_processor_is_a_quantity() {
    for cpu in ["0.5", "1", "500m"] {
        let set = format!("resources.requests.cpu={cpu}");
        template(&["--set", &set]).unwrap_or_else(|error| panic!("{cpu}: {error}"));
        let set = format!("resources.requests.cpu={}", json!(cpu));
        template(&["--set-json", &set]).unwrap_or_else(|error| panic!("{cpu}: {error}"));
    }
    template(&["--set-json", "resources.requests.cpu=0.5"]).unwrap();
    let error = template(&["--set-json", "resources.requests.cpu=-0.5"]).unwrap_err();
    assert!(error.contains("at '/resources/requests/cpu'"), "{error}");
}

/// No place takes what nobody asked for, but those whose content is Kubernetes' own or nobody's.
#[test]
fn the_schema_is_closed() {
    const OPEN: [&str; 7] = [
        "/affinity/nodeAffinity",
        "/affinity/podAffinity",
        "/affinity/podAntiAffinity",
        "/extraEnv/[]/valueFrom/configMapKeyRef",
        "/extraEnv/[]/valueFrom/fieldRef",
        "/extraEnv/[]/valueFrom/resourceFieldRef",
        "/extraEnv/[]/valueFrom/secretKeyRef",
    ];
    let schema = schema();
    let mut open = Vec::new();
    find_open(&schema, &schema, "", &mut open);
    open.sort();
    let mut expected: Vec<_> = OPEN.map(str::to_owned).to_vec();
    expected.push("/global".to_owned());
    assert_eq!(open, expected);
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => root.pointer(name.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    }
}

fn find_open(root: &Value, schema: &Value, path: &str, open: &mut Vec<String>) {
    let schema = resolve(root, schema);
    assert!(
        schema["type"].is_string() || schema["type"].is_array() || schema["enum"].is_array(),
        "{path} may be of any type"
    );
    let is_object = schema["type"] == "object";
    if is_object
        && !matches!(
            schema["additionalProperties"],
            Value::Bool(false) | Value::Object(_)
        )
    {
        open.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        find_open(root, property, &format!("{path}/{name}"), open);
    }
    if schema["type"] == "array" {
        find_open(root, &schema["items"], &format!("{path}/[]"), open);
    }
}

/// What is in one of them only is either forbidden or not told of.
#[test]
fn the_schema_has_the_values_that_there_are() {
    let schema = schema();
    let values = fs::read_to_string(format!("{CHART}/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    compare(&schema, &schema, &values, "");
}

/// Maps whose keys are the user's, or have defaults of their own.
const FREE: [&str; 4] = ["/agent/budget", "/affinity", "/seLinuxOptions", "/global"];

fn compare(root: &Value, schema: &Value, values: &Value, path: &str) {
    let schema = resolve(root, schema);
    let (Some(properties), Some(values)) = (schema["properties"].as_object(), values.as_object())
    else {
        return;
    };
    if FREE.contains(&path) || path.ends_with("/requests") || path.ends_with("/limits") {
        return;
    }
    let names = |of: &serde_json::Map<String, Value>| {
        let mut names: Vec<_> = of.keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(names(properties), names(values), "{path}");
    for (name, value) in values {
        compare(root, &properties[name], value, &format!("{path}/{name}"));
    }
}
