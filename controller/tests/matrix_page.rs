//! The page of `picket matrix -o html`, in a real browser.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[path = "matrix/browser.rs"]
mod browser;
#[path = "matrix/large.rs"]
mod large;
#[path = "support/program.rs"]
mod program;

use browser::{Page, Scheme};
use program::{SHOP, exits, picket, text};

fn html(arguments: &[&str], stdin: &str) -> String {
    let arguments = [&["matrix", "-o", "html"], arguments].concat();
    let output = picket(&arguments, stdin);
    exits(&output, 0);
    text(&output.stdout).to_owned()
}

/// The cells that can be seen: `from -> to: what it says to a screen reader`.
const CELLS: &str = "[...document.querySelectorAll('#matrix td[aria-label]')].filter((td) => !td.classList.contains('apart'))
    .map((td) => td.parentElement.firstElementChild.textContent + ' -> '
        + document.querySelector('#matrix thead').rows[0].cells[td.cellIndex].textContent
        + ': ' + td.getAttribute('aria-label')).join('\\n')";

const WHY: &str = "document.getElementById('why').innerText";

const COUNT: &str = "document.getElementById('count').textContent";

#[test]
fn the_page_is_searched_filtered_and_says_why() {
    for scheme in [Scheme::Light, Scheme::Dark] {
        let page = Page::open("shop", &html(&["-f", SHOP], ""), scheme);
        assert_eq!(page.text("document.title"), "Who reaches whom");
        let all = page.text(CELLS);
        assert_eq!(all.lines().count(), 44, "{all}");
        assert!(
            all.contains("shop/orders -> shop/db: Only TCP 5432 may pass\n"),
            "{all}"
        );
        page.screenshot("shop");

        // A search finds an end, and leaves who has to do with it.
        page.type_into("search", "DB-0");
        let found = page.text(CELLS);
        let allowed: Vec<&str> = found
            .lines()
            .filter(|line| !line.contains("Nothing"))
            .collect();
        let expected = [
            "monitoring/scraper -> shop/db: Only TCP 9187 may pass",
            "shop/orders -> shop/db: Only TCP 5432 may pass",
        ];
        assert_eq!(allowed, expected);
        assert!(!found.contains("shop/web ->"), "{found}");
        page.screenshot("shop-search");
        page.type_into("search", "nobody at all");
        assert_eq!(
            page.text("getComputedStyle(document.getElementById('matrix')).display"),
            "none"
        );
        assert!(
            page.text("document.getElementById('empty').innerText")
                .starts_with("No end matches.")
        );
        page.screenshot("shop-empty");
        page.click("#clear");
        page.until(CELLS, |cells| cells == all);

        // Who may use a port.
        page.type_into("port", "5432");
        assert_eq!(
            page.text(CELLS)
                .lines()
                .filter(|line| line.contains("TCP 5432 may pass"))
                .count(),
            19
        );
        let legend = "document.getElementById('legend').textContent";
        assert!(page.text(legend).contains("TCP 5432 may pass"));
        assert!(!page.text(legend).contains("everything"));
        page.choose("to", "n:shop");
        assert_eq!(
            page.text(CELLS),
            "shop/orders -> shop/db: TCP 5432 may pass"
        );
        assert_eq!(
            page.text(COUNT),
            "1 of 8 sources, 1 of 8 destinations: 1 pair may use TCP 5432"
        );
        page.type_into("port", "http");
        assert_eq!(
            page.text("document.getElementById('port-error').textContent"),
            "Write a port as 5432, 53/udp or icmp."
        );
        page.type_into("port", "");
        page.choose("from", "n:monitoring");
        let cells = page.text(CELLS);
        assert_eq!(cells.lines().count(), 3, "{cells}");
        assert!(
            cells
                .lines()
                .all(|line| line.starts_with("monitoring/scraper -> shop/")),
            "{cells}"
        );
        page.click("button[type=reset]");
        page.until(CELLS, |cells| cells == all);

        // Hover says why.
        let width = "document.getElementById('grid').getBoundingClientRect().width + ' ' + document.documentElement.scrollWidth";
        let before = page.text(width);
        page.hover("tbody tr:nth-child(3) td:nth-child(3)");
        let why = page.until(WHY, |why| why.contains("shop/orders"));
        for part in [
            "shop/orders → shop/db",
            "Only TCP 5432 may pass",
            "Allowed: no policy isolates the source for egress.",
            "shop/db-with-orders: TCP 5432",
            "Isolated by shop/db-with-orders, shop/default-deny, shop/metrics-from-operations",
        ] {
            assert!(why.contains(part), "{part}\n{why}");
        }
        assert_eq!(page.text(width), before, "nothing moves");
        page.screenshot("shop-hover");

        // So do the keys.
        page.focus("tbody td[tabindex='0']");
        page.press("ArrowDown");
        page.press("ArrowRight");
        page.press("ArrowRight");
        let why = page.until(WHY, |why| why.contains("shop/orders"));
        assert!(why.contains("shop/db → shop/orders"), "{why}");
        assert!(
            why.contains("Denied: the source is isolated and no rule allows the destination."),
            "{why}"
        );
        page.is_quiet();
    }
}

/// WCAG 2: the contrast of text with what is behind it, least over all elements that the selector finds.
fn contrast(page: &Page, selector: &str) -> f64 {
    let script = "((selector) => {
        const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const luminance = (colour) => numbers(colour).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
        const behind = (element) => {
            const colour = getComputedStyle(element).backgroundColor;
            return numbers(colour)[3] === 0 ? behind(element.parentElement) : colour;
        };
        const found = [...document.querySelectorAll(selector)].filter((element) => element.textContent);
        return Math.min(...found.map((element) => {
            const [a, b] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }));
    })";
    page.text(&format!("{script}('{selector}')"))
        .parse()
        .unwrap()
}

#[test]
fn two_hundred_pods_are_readable() {
    let cluster = large::cluster();
    for scheme in [Scheme::Light, Scheme::Dark] {
        let page = Page::open("large", &html(&["-f", "-"], &cluster), scheme);
        let summary = page.text("document.getElementById('summary').textContent");
        assert!(
            summary.starts_with(
                "200 pods in 5 namespaces, folded into 65 rows of equal reach; 4 nodes."
            ),
            "{summary}"
        );
        page.screenshot("large");
        let background = page.text("getComputedStyle(document.body).backgroundColor");
        let is_dark = background == "rgb(20, 24, 27)";
        assert_eq!(is_dark, scheme == Scheme::Dark, "{background}");
        for (selector, least) in [
            ("td.allow", 4.5),
            ("td.some", 4.5),
            ("tbody th", 4.5),
            ("th .namespace", 4.5),
            ("#why p", 4.5),
            ("#legend li", 4.5),
            // A mark rather than text.
            ("td.deny", 3.0),
        ] {
            let found = contrast(&page, selector);
            assert!(
                found.is_finite() && found >= least,
                "{scheme:?} {selector}: {found}"
            );
        }

        page.type_into("search", "billing/db");
        let count = page.text(COUNT);
        assert!(
            count.starts_with("5 of 68 sources, 10 of 68 destinations"),
            "{count}"
        );
        // A click pins what is said, so that the pointer can go and select it.
        page.click("tbody tr:nth-child(2) td:nth-child(2)");
        let why = page.until(WHY, |why| why.contains("billing/db"));
        page.hover("tbody tr:nth-child(1) td:nth-child(3)");
        page.hover("#why");
        assert_eq!(page.text(WHY), why);
        page.screenshot("large-search");
        page.click("tbody tr:nth-child(2) td:nth-child(2)");
        page.hover("tbody tr:nth-child(1) td:nth-child(3)");
        page.until(WHY, |why| {
            why.starts_with("billing/api (6 pods) → billing/db (2 pods)")
        });
        page.is_quiet();
    }
}

/// The API server checks the names of pods, and not those of their owners.
#[test]
fn a_name_is_never_markup() {
    let hostile = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><!--\u{202e}";
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "shop",
            "ownerReferences": [{"apiVersion": "x/v1", "kind": "X", "name": hostile, "uid": "u"}]}});
    let html = html(&["-f", "-"], &pod.to_string());
    let [before, _] = html.split("window.hacked = 1").collect::<Vec<_>>()[..2] else {
        panic!("the name is not in the page")
    };
    assert!(before.contains(r"\u003c/script>"), "{before}");
    let page = Page::open("hostile", &html, Scheme::Light);
    let heads = page.text("document.querySelector('#matrix').innerText");
    assert!(
        heads.contains(r"</script><script>window.hacked = 1</script><img src=x"),
        "{heads}"
    );
    assert!(!heads.contains('\u{202e}'), "{heads}");
    assert_eq!(page.text("window.hacked"), "undefined");
    assert_eq!(page.text("document.images.length"), "0");
    page.is_quiet();
}
