//! The result of the plugins before us, read on the side: it leaves as it came, whatever it holds.
//!
//! Vendors write what the specification does not know (AWS: `"mac":"0"`, `"sandbox":"0"`), so that only what is needed
//! is looked at.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use super::error::{Code, Error};
use crate::attachment::is_of_a_pod;

/// The addresses that the result gives to an interface in a namespace: those that name it, and those that name none.
pub(super) fn addresses(
    result: &str,
    netns: &str,
    interface: &str,
) -> Result<BTreeSet<IpAddr>, Error> {
    let result: Value = serde_json::from_str(result)
        .map_err(|error| Error::of(Code::Decode, "prevResult is not valid", &error))?;
    if !result.is_object() {
        return Err(Error::new(
            Code::Configuration,
            "prevResult is not valid",
            "it is no object",
        ));
    }
    let list = |key: &str| {
        result[key]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let interfaces = list("interfaces");
    let is_ours = |ip: &Value| match &ip["interface"] {
        Value::Null => true,
        index => {
            let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
            index
                .and_then(|index| interfaces.get(index))
                .is_some_and(|of| {
                    let sandbox = of["sandbox"].as_str().unwrap_or_default();
                    of["name"] == interface && is_same_file(sandbox, netns)
                })
        }
    };
    list("ips")
        .iter()
        .filter(|ip| is_ours(ip))
        .map(|ip| {
            let text = ip["address"].as_str().unwrap_or_default();
            // One that nobody understands is one that no policy would hold for.
            address(text).ok_or_else(|| {
                let details = format!("{text:?} in its ips is no address of a pod");
                Error::new(Code::Configuration, "prevResult is not valid", details)
            })
        })
        .collect()
}

/// `10.235.0.3/24`
fn address(text: &str) -> Option<IpAddr> {
    let address = text.split('/').next()?;
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    is_of_a_pod(address).then_some(address)
}

/// `/run` and `/var/run` are often the same.
fn is_same_file(one: &str, other: &str) -> bool {
    let identity = |path: &str| {
        let metadata = path.starts_with('/').then(|| fs::metadata(path).ok())??;
        Some((metadata.dev(), metadata.ino()))
    };
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(result: &str, expected: &[&str]) {
        let expected = expected
            .iter()
            .map(|text| text.parse().expect("an address"));
        let read = addresses(result, "/run/netns/x", "eth0").expect(result);
        assert_eq!(read, expected.collect(), "{result}");
    }

    #[test]
    fn addresses_are_those_of_the_interface_and_those_of_none() {
        check(
            r#"{"interfaces":[{"name":"br"},{"name":"veth1"},{"name":"eth0","sandbox":"/run/netns/x"}],
                "ips":[{"address":"10.235.0.3/24","interface":2},{"address":"10.9.9.9/24","interface":1},{"version":"6","address":"fd00::3/64","interface":2}]}"#,
            &["10.235.0.3", "fd00::3"],
        );
        // AWS
        check(
            r#"{"interfaces":[{"name":"eni1"},{"name":"eth0","sandbox":"/run/netns/x","pciID":"a"},{"name":"dummy1","mac":"0","sandbox":"0","socketPath":"1"}],
                "ips":[{"address":"10.0.0.7/32","interface":1},{"address":"10.0.0.8/32","interface":2}]}"#,
            &["10.0.0.7"],
        );
        check(
            r#"{"ips":[{"address":"10.0.0.7"},{"address":"::ffff:10.0.0.8/128"}]}"#,
            &["10.0.0.7", "10.0.0.8"],
        );
        check(
            r#"{"ips":[{"address":"10.0.0.7/8","interface":9},{"address":"10.0.0.7/8","interface":-1},{"address":"1","interface":"0"}]}"#,
            &[],
        );
        check(r#"{"interfaces":7,"ips":null}"#, &[]);
        check("{}", &[]);
    }

    #[test]
    fn an_address_that_nobody_understands_is_no_reason_to_go_on() {
        for result in [
            "[]",
            "{",
            r#"{"ips":[{"address":"10.0.0/8"}]}"#,
            r#"{"ips":[{}]}"#,
            r#"{"ips":[7]}"#,
            r#"{"ips":[{"address":"127.0.0.1/8"}]}"#,
            r#"{"ips":[{"address":"224.0.0.1/8"}]}"#,
        ] {
            addresses(result, "/run/netns/x", "eth0").expect_err(result);
        }
    }
}
