//! Chromium, without a window.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use headless_chrome::browser::tab::point::Point;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Network, Page as Cdp};
use headless_chrome::{Browser, LaunchOptions, Tab};

/// The names of the program, as Debian, other distributions and Google have it.
const NAMES: [&str; 4] = [
    "chromium",
    "google-chrome",
    "google-chrome-stable",
    "chromium-browser",
];

/// The longest that a page may take for what it is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// A file in a browser of its own, which ends with it.
pub(crate) struct Page {
    tab: Arc<Tab>,
    scheme: &'static str,
    /// What the page asked the network for, and what went wrong in it.
    noise: Arc<Mutex<Vec<String>>>,
    _browser: Browser,
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = NAMES.iter().find_map(|name| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    });
    found.unwrap_or_else(|| panic!("none of {} is installed: run ./setup", NAMES.join(", ")))
}

impl Page {
    /// Writes the file to the target folder and opens it.
    pub(crate) fn open(name: &str, html: &str, scheme: Scheme) -> Self {
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let file =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("matrix-{name}-{scheme}.html"));
        std::fs::write(&file, html).unwrap();
        let options = LaunchOptions {
            path: Some(program()),
            // Chromium's own sandbox needs a user that is not root; the page is ours.
            sandbox: false,
            window_size: Some((1440, 900)),
            idle_browser_timeout: Duration::from_secs(120),
            args: ["--hide-scrollbars", "--disable-dev-shm-usage"]
                .map(OsStr::new)
                .into(),
            ..LaunchOptions::default()
        };
        let browser = Browser::new(options).unwrap();
        let tab = browser.new_tab().unwrap();
        tab.set_default_timeout(PATIENCE);
        let noise = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&noise);
        let listen = move |event: &Event| {
            let line = match event {
                Event::NetworkRequestWillBeSent(sent) => sent.params.request.url.clone(),
                Event::RuntimeConsoleAPICalled(called) => {
                    format!("console: {:?}", called.params.args)
                }
                Event::RuntimeExceptionThrown(thrown) => {
                    format!("exception: {:?}", thrown.params.exception_details)
                }
                Event::LogEntryAdded(added) => format!("log: {}", added.params.entry.text),
                _ => return,
            };
            heard.lock().unwrap().push(line);
        };
        tab.add_event_listener(Arc::new(listen)).unwrap();
        tab.enable_runtime().unwrap();
        tab.enable_log().unwrap();
        tab.call_method(Network::Enable {
            max_total_buffer_size: None,
            max_resource_buffer_size: None,
            max_post_data_size: None,
            report_direct_socket_traffic: None,
            enable_durable_messages: None,
        })
        .unwrap();
        let feature = Emulation::MediaFeature {
            name: "prefers-color-scheme".into(),
            value: scheme.into(),
        };
        tab.call_method(Emulation::SetEmulatedMedia {
            media: None,
            features: Some(vec![feature]),
        })
        .unwrap();
        tab.navigate_to(&format!("file://{}", file.display()))
            .unwrap();
        tab.wait_until_navigated().unwrap();
        Self {
            tab,
            scheme,
            noise,
            _browser: browser,
        }
    }

    /// The value of a JavaScript expression, as text.
    #[track_caller]
    pub(crate) fn text(&self, expression: &str) -> String {
        let result = self.tab.evaluate(&format!("String({expression})"), false);
        let value = result.unwrap().value.unwrap_or_default();
        value.as_str().unwrap_or_default().to_owned()
    }

    /// The same, once it is what is waited for.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text(expression);
            if wanted(&text) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{expression} stays: {text}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Replaces what is in the field of that id, key by key.
    pub(crate) fn type_into(&self, id: &str, text: &str) {
        self.text(&format!(
            "document.getElementById('{id}').select() || document.getElementById('{id}').focus()"
        ));
        self.tab.press_key("Backspace").unwrap();
        if !text.is_empty() {
            self.tab.type_str(text).unwrap();
        }
        let value = format!("document.getElementById('{id}').value");
        self.until(&value, |value| value == text);
    }

    /// Chooses the option of that value.
    pub(crate) fn choose(&self, id: &str, value: &str) {
        let select = format!("document.getElementById('{id}')");
        self.text(&format!(
            "({select}.value = '{value}', {select}.dispatchEvent(new Event('input')))"
        ));
        assert_eq!(self.text(&format!("{select}.value")), value);
    }

    pub(crate) fn click(&self, selector: &str) {
        self.tab.click_point(self.middle(selector)).unwrap();
    }

    pub(crate) fn hover(&self, selector: &str) {
        self.tab.move_mouse_to_point(self.middle(selector)).unwrap();
    }

    pub(crate) fn focus(&self, selector: &str) {
        self.text(&format!("document.querySelector(\"{selector}\").focus()"));
    }

    pub(crate) fn press(&self, key: &str) {
        self.tab.press_key(key).unwrap();
    }

    fn middle(&self, selector: &str) -> Point {
        self.tab
            .wait_for_element(selector)
            .unwrap()
            .get_midpoint()
            .unwrap()
    }

    /// Keeps a picture in the target folder, for a person to look at.
    pub(crate) fn screenshot(&self, name: &str) {
        let png = self
            .tab
            .capture_screenshot(Cdp::CaptureScreenshotFormatOption::Png, None, None, true)
            .unwrap();
        let file = format!("matrix-{name}-{}.png", self.scheme);
        std::fs::write(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file), png).unwrap();
    }

    /// The page has asked the network for nothing besides itself, and nothing went wrong in it.
    #[track_caller]
    pub(crate) fn is_quiet(&self) {
        let noise = self.noise.lock().unwrap();
        let [own] = noise.as_slice() else {
            panic!("{noise:#?}")
        };
        assert!(own.starts_with("file://"), "{own}");
    }
}
