//! It stays installed, whatever others write. Nothing here waits for a time: each test waits for what is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod install_support;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cni_chain::install::{Error, Pace, Report, Settings};
use install_support::{CONFLIST, Node, ours};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Polls never, so that what is seen is seen by inotify.
fn pace() -> Pace {
    Pace {
        debounce: Duration::from_millis(20),
        poll: Duration::from_secs(3600),
        first_wait: Duration::from_millis(1),
        ..Pace::default()
    }
}

struct Watcher {
    stop: Option<UnixStream>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(settings: Settings, pace: Pace) -> Self {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (tell, reports) = channel();
        let thread = std::thread::spawn(move || {
            let installer = cni_chain::install::Installer::new(settings).unwrap();
            installer.watch(&pace, stopped.as_fd(), |report| {
                let _ = tell.send(report);
            });
        });
        Self {
            stop: Some(stop),
            reports,
            thread: Some(thread),
        }
    }

    #[track_caller]
    fn until<T>(&self, found: impl Fn(&Report) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = self.reports.recv_timeout(left).expect("it is told in time");
            if let Some(found) = found(&report) {
                return found;
            }
        }
    }

    #[track_caller]
    fn edited(&self) {
        self.until(|report| matches!(report, Report::Installed(of) if of.is_edited).then_some(()));
    }

    /// Ends it, and returns what it told that was not read.
    fn stop(mut self) -> Vec<Report> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        self.reports.try_iter().collect()
    }
}

/// As a main network plugin writes: in place, or whole.
fn rewrite(path: &Path, text: &str, in_place: bool) {
    if in_place {
        fs::write(path, text).unwrap();
    } else {
        let other = path.with_extension("tmp");
        fs::write(&other, text).unwrap();
        fs::rename(other, path).unwrap();
    }
}

#[test]
fn the_entry_comes_back_when_the_main_plugin_rewrites_its_file_in_place_or_whole() {
    let node = Node::new("rewrite");
    node.write("10-main.conflist", CONFLIST);
    let watcher = Watcher::start(node.settings(), pace());
    watcher.edited();
    for in_place in [true, false] {
        rewrite(&node.conf("10-main.conflist"), CONFLIST, in_place);
        watcher.edited();
        assert_eq!(ours(&node.read("10-main.conflist")), 1);
    }
    assert!(node.installer().status().is_ready());
    watcher.stop();
}

#[test]
fn it_is_installed_when_the_main_plugin_comes_and_says_that_it_waits() {
    let node = Node::new("later");
    let watcher = Watcher::start(node.settings(), pace());
    watcher.until(|report| match report {
        Report::Failed(error) => error
            .to_string()
            .contains("no network configuration")
            .then_some(()),
        _ => None,
    });
    // Half of a file first.
    node.write("10-main.conflist", &CONFLIST[..CONFLIST.len() / 2]);
    watcher.until(|report| match report {
        Report::Failed(error) => error.to_string().contains("not JSON").then_some(()),
        _ => None,
    });
    node.write("10-main.conflist", CONFLIST);
    watcher.edited();
    // Another main plugin goes before it.
    node.write("05-other.conflist", CONFLIST);
    watcher.edited();
    assert_eq!(ours(&node.read("05-other.conflist")), 1);
    watcher.stop();
}

#[test]
fn the_binary_comes_back() {
    let node = Node::new("binary");
    node.write("10-main.conflist", CONFLIST);
    let watcher = Watcher::start(node.settings(), pace());
    watcher.edited();
    for broken in [false, true] {
        fs::remove_file(node.binary()).unwrap();
        if broken {
            fs::write(node.binary(), "").unwrap();
        }
        watcher
            .until(|report| matches!(report, Report::Installed(of) if of.is_placed).then_some(()));
        assert!(node.installer().status().is_ready());
    }
    watcher.stop();
}

#[test]
fn its_own_writes_and_those_of_a_second_watcher_are_no_news() {
    let node = Node::new("two");
    node.write("10-main.conf", include_str!("install/bridge.conf"));
    let first = Watcher::start(node.settings(), pace());
    let second = Watcher::start(node.settings(), pace());
    let installed = |watcher: &Watcher| {
        watcher.until(|report| matches!(report, Report::Installed(_)).then_some(()));
    };
    installed(&first);
    installed(&second);
    // What both have seen of each other's writes comes before this.
    node.write("00-broken.conf", "{");
    let told = |watcher: &Watcher| {
        watcher.until(|report| match report {
            Report::Installed(of) if of.is_edited => panic!("written again: {of:?}"),
            Report::Installed(of) => of
                .notes
                .iter()
                .any(|note| note.contains("00-broken"))
                .then_some(()),
            other => panic!("{other:?}"),
        });
    };
    told(&first);
    told(&second);
    assert!(first.stop().is_empty());
    assert!(second.stop().is_empty());
    assert_eq!(
        node.names(),
        [
            "00-broken.conf",
            "10-main.conf.picket-bak",
            "10-main.conflist"
        ]
    );
}

#[test]
fn another_writer_that_fights_is_told_of() {
    let node = Node::new("fight");
    node.write("10-main.conflist", CONFLIST);
    let watcher = Watcher::start(node.settings(), pace());
    let mut fights = Vec::new();
    while fights.len() < 3 {
        let fought = watcher.until(|report| match report {
            Report::Fight { wait, .. } => Some(Some(*wait)),
            Report::Installed(of) if of.is_edited => Some(None),
            _ => None,
        });
        match fought {
            Some(wait) => fights.push(wait.as_millis()),
            None => node.write("10-main.conflist", CONFLIST),
        }
    }
    assert_eq!(fights, [1, 2, 4]);
    watcher.stop();
}

#[test]
fn a_main_plugin_that_rewrites_at_random_has_our_entry_in_its_last_version() {
    let node = Node::new("random");
    let mut pace = pace();
    pace.longest_wait = Duration::from_millis(1);
    let watchers = [
        Watcher::start(node.settings(), pace),
        Watcher::start(node.settings(), pace),
    ];
    let mut random = 88_172_645_463_325_252_u64;
    let path = node.conf("10-main.conflist");
    for version in 0..300 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let text = CONFLIST.replace("cbr0", &format!("cbr{version}"));
        rewrite(&path, &text, random.is_multiple_of(2));
        if random.is_multiple_of(3) {
            // It reads what it wrote, if not at once: what was there before may be given back in the same moment.
            let deadline = Instant::now() + PATIENCE;
            let is_there = || {
                let read = node.read("10-main.conflist");
                read.contains(&format!("\"cbr{version}\""))
            };
            while !is_there() {
                let read = node.read("10-main.conflist");
                assert!(Instant::now() < deadline, "lost {version}: {read}");
            }
        }
        if random.is_multiple_of(5) {
            std::thread::yield_now();
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while !node.installer().status().is_ready() {
        assert!(Instant::now() < deadline, "{:?}", node.installer().status());
        let _ = watchers[0].reports.recv_timeout(Duration::from_millis(100));
    }
    for watcher in watchers {
        watcher.stop();
    }
    let last = node.read("10-main.conflist");
    assert!(last.contains("\"cbr299\""), "{last}");
    assert_eq!(ours(&last), 1);
    assert_eq!(node.names(), ["10-main.conflist"]);
}

#[test]
fn nobody_takes_out_what_a_watch_would_put_in_again() {
    let node = Node::new("watched");
    node.write("10-main.conflist", CONFLIST);
    let other = Watcher::start(node.settings(), pace());
    let watcher = Watcher::start(node.settings(), pace());
    let installed = |watcher: &Watcher| {
        watcher.until(|report| matches!(report, Report::Installed(_)).then_some(()));
    };
    installed(&other);
    installed(&watcher);
    let before = node.read("10-main.conflist");
    for last in [other, watcher] {
        let refused = node.installer().remove_entries();
        assert!(
            matches!(&refused, Err(Error::Watched { path }) if *path == node.conf("")),
            "{refused:?}"
        );
        assert_eq!(node.read("10-main.conflist"), before);
        last.stop();
    }
    node.installer().remove_entries().unwrap();
    assert_eq!(node.read("10-main.conflist"), CONFLIST);
}

/// One that comes later is watched from then on.
#[test]
fn a_folder_that_is_made_anew_is_watched() {
    let node = Node::new("anew");
    fs::remove_dir(node.conf("")).unwrap();
    let pace = Pace {
        poll: Duration::from_millis(20),
        ..pace()
    };
    let watcher = Watcher::start(node.settings(), pace);
    watcher.until(|report| matches!(report, Report::Failed(_)).then_some(()));
    fs::create_dir_all(node.conf("")).unwrap();
    node.write("10-main.conflist", CONFLIST);
    watcher.edited();
    let refused = node.installer().remove_entries();
    assert!(matches!(refused, Err(Error::Watched { .. })), "{refused:?}");
    watcher.stop();
}
