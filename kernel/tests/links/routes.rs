//! Where packets go.

use std::net::IpAddr;

use kernel::{Links, NextHop, Route, RouteKind};
use serde_json::{Value, json};

use crate::{agree, json as listed, link, links, namespace, prepared};

const ROUTES: &str = "
    link add left type veth peer name wire
    link add right type veth peer name wire2
    link set dev lo up
    link set dev wire up
    link set dev wire2 up
    link set dev left up
    link set dev right up
    address add 10.0.0.1/24 dev left
    address add fd00::1/64 dev left
    address add 10.1.0.1/24 dev right
    route add default via 10.0.0.254
    route add 10.2.0.0/16 via 10.1.0.9 dev right metric 77
    route add 10.3.0.0/16 via inet6 fe80::9 dev left
    route add 10.4.0.0/16 nexthop via 10.0.0.7 dev left nexthop via 10.1.0.7 dev right
    route add 10.5.0.7/32 dev right table 1000
    route add blackhole 10.6.0.0/16
    route add unreachable 10.7.0.0/16
    route add prohibit 10.8.0.0/16
    route add default via fd00::9
    route add fd01::/64 nexthop via fd00::7 dev left nexthop via fe80::7 dev right
    route add blackhole fd06::/64
    route add unreachable fd07::/64
    route add prohibit fd08::/64
";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What `ip -N -j route show table all` says, of what a [`Route`] says.
fn by_ip(of: &Value, ipv6: bool) -> Value {
    let hop = |hop: &Value| {
        let gateway = match (&hop["gateway"], &hop["via"]["host"]) {
            (Value::Null, via) => via.clone(),
            (gateway, _) => gateway.clone(),
        };
        json!({"dev": hop["dev"], "gateway": gateway})
    };
    let hops = match &of["nexthops"] {
        Value::Array(hops) => hops.iter().map(hop).collect(),
        _ if of["dev"].is_null() => Vec::new(),
        _ => vec![hop(of)],
    };
    let any = if ipv6 { "::/0" } else { "0.0.0.0/0" };
    let all = if ipv6 { "/128" } else { "/32" };
    let destination = match of["dst"].as_str().unwrap() {
        "default" => any.to_owned(),
        whole if !whole.contains('/') => format!("{whole}{all}"),
        other => other.to_owned(),
    };
    json!({
        "destination": destination, "hops": hops,
        "type": of["type"].as_str().unwrap_or("unicast"),
        "table": of["table"].as_str().unwrap_or("main"),
        "metric": of["metric"].as_u64().unwrap_or(0),
        "source": of["prefsrc"],
    })
}

fn by_us(of: &Route, links: &mut Links) -> Value {
    let mut hop = |hop: &NextHop| {
        let name = links.by_index(hop.link.unwrap()).unwrap().unwrap().name;
        json!({"dev": name, "gateway": hop.gateway})
    };
    let kind = match of.kind {
        RouteKind::Other(number) => panic!("{number}"),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let table = match of.table {
        254 => "main".to_owned(),
        255 => "local".to_owned(),
        other => other.to_string(),
    };
    json!({
        "destination": format!("{}/{}", of.destination, of.prefix_length),
        "hops": of.next_hops.iter().map(&mut hop).collect::<Vec<_>>(),
        "type": kind, "table": table, "metric": of.priority, "source": of.source,
    })
}

#[test]
fn routes_are_what_ip_lists() {
    let node = prepared(ROUTES);
    let mut links = links(&node);
    let sorted = |mut all: Vec<Value>| {
        all.sort_by_key(Value::to_string);
        all
    };
    let found = agree(
        || {
            let found = links.routes().unwrap();
            sorted(found.iter().map(|route| by_us(route, &mut links)).collect())
        },
        || {
            let mut expected = Vec::new();
            for family in ["-4", "-6"] {
                let arguments = [family, "-d", "-j", "route", "show", "table", "all"];
                let routes = listed(&node, "ip", &arguments);
                expected.extend(routes.iter().map(|route| by_ip(route, family == "-6")));
            }
            sorted(expected)
        },
    );
    assert!(found.len() > 25, "{}", found.len());
}

#[test]
fn the_link_by_which_packets_leave_is_told() {
    let node = prepared(ROUTES);
    let mut links = links(&node);
    let (a, b, lo) = (
        link(&mut links, "left").index,
        link(&mut links, "right").index,
        link(&mut links, "lo").index,
    );
    for (to, kind, by, gateway) in [
        ("192.0.2.1", RouteKind::Unicast, a, Some("10.0.0.254")),
        ("10.0.0.9", RouteKind::Unicast, a, None),
        ("10.1.0.9", RouteKind::Unicast, b, None),
        ("10.2.3.4", RouteKind::Unicast, b, Some("10.1.0.9")),
        ("10.3.3.4", RouteKind::Unicast, a, Some("fe80::9")),
        ("10.1.0.1", RouteKind::Local, lo, None),
        ("127.0.0.5", RouteKind::Local, lo, None),
        ("10.0.0.255", RouteKind::Broadcast, a, None),
        ("2001:db8::1", RouteKind::Unicast, a, Some("fd00::9")),
        ("fd00::77", RouteKind::Unicast, a, None),
    ] {
        let route = links.route_to(address(to)).unwrap().expect(to);
        let hop = NextHop {
            link: Some(by),
            gateway: gateway.map(address),
        };
        assert_eq!((route.kind, route.next_hops), (kind, vec![hop]), "{to}");
    }
    node.ip_batch("rule add to 10.5.0.0/16 table 1000").unwrap();
    let route = links.route_to(address("10.5.0.7")).unwrap().unwrap();
    assert_eq!((route.table, route.next_hops[0].link), (1000, Some(b)));
    let route = links.route_to(address("fd00::1")).unwrap().unwrap();
    assert_eq!(route.kind, RouteKind::Local);
    for to in [
        "10.6.0.1", "10.7.0.1", "10.8.0.1", "fd06::1", "fd07::1", "fd08::1",
    ] {
        assert_eq!(links.route_to(address(to)).unwrap(), None, "{to}");
    }
}

#[test]
fn without_routes_packets_go_nowhere() {
    let mut links = links(&namespace());
    for to in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(links.route_to(address(to)).unwrap(), None, "{to}");
    }
}
