//! An agent that runs on a node through which packets flow.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use controller::agent::server::DEFAULT_BIND;
use controller::{cluster, source};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_compiler::compile::compile;
use policy_compiler::lower::{Options, lower};
use policy_compiler::ruleset::Ruleset;
use policy_compiler::validate;
use testbed::Namespace;

use crate::manifests::{self, NODE};
pub(crate) use crate::support::Folder;
use crate::world::{Flood, World, frame, open_frame};

/// How long something that must come about may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A process, killed at the latest with the test.
pub(crate) struct Agent {
    child: Child,
    /// What it wrote on stderr so far.
    log: Arc<Mutex<String>>,
    /// Who reads that, until it ends; nobody where it is not a pipe.
    reader: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts one in the network namespace.
    pub(crate) fn spawn(
        node: &Namespace,
        mut command: Command,
        prepare: impl FnOnce(&mut Command) + Send,
    ) -> Self {
        command.stderr(Stdio::piped()).stdin(Stdio::null());
        let spawn = || {
            prepare(&mut command);
            command.spawn()
        };
        let mut child = node.run(spawn).unwrap().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        let reader = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = written.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        });
        Self { child, log, reader }
    }

    /// Its root directory, as it sees it.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.child.id()).into()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Its exit code, when it has ended and all that it wrote is read.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        self.reader.take().map(JoinHandle::join);
        code
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node, and what its agent is told.
pub(crate) struct Live {
    pub(crate) world: World,
    pub(crate) manifests: Folder,
    pub(crate) run_dir: Folder,
    /// What is in the files of the folder, as far as it is good.
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) arguments: Vec<String>,
}

impl Live {
    /// With what always holds, and no agent yet.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut live = Self {
            world: World::new(),
            manifests: Folder::new("manifests"),
            run_dir: Folder::new("run"),
            files: BTreeMap::new(),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
        };
        live.replace("base.yaml", &manifests::base());
        live
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.manifests.path().join(file)
    }

    /// Puts a file in place of another, or of none, in one step.
    pub(crate) fn replace(&mut self, file: &str, text: &str) {
        let beside = self.manifests.path().join(".new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(file)).unwrap();
        self.files.insert(file.to_owned(), text.to_owned());
    }

    pub(crate) fn remove(&mut self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
        self.files.remove(file);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
        command
            .args(arguments)
            .arg("--run-dir")
            .arg(self.run_dir.path());
        command
    }

    /// Starts an agent.
    pub(crate) fn start(&self) -> Agent {
        self.start_by(|_| {})
    }

    /// The same; the last preparations are made on a thread of their own, whose surroundings the agent inherits.
    pub(crate) fn start_by(&self, prepare: impl FnOnce(&mut Command) + Send) -> Agent {
        let mut command = self.command(&["agent", "--node", NODE]);
        command.arg("--manifests").arg(self.manifests.path());
        command.args(&self.arguments);
        Agent::spawn(&self.world.node, command, prepare)
    }

    /// Starts an agent, and waits until what the files say is in force.
    pub(crate) fn started(&mut self) -> Agent {
        let agent = self.start();
        // What was in force before may be what is wanted.
        self.until("everything is in force", &agent, |_| {
            agent.log().contains("in force")
        });
        self.quiet(&agent);
        agent
    }

    /// Status and body of what the agent answers over HTTP; nothing as long as nobody listens.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        get(&self.world.node, path)
    }

    /// What the agent counts, by the name of the metric with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").unwrap();
        metric(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Another command on the node.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        self.world.node.run(|| command.output()).unwrap().unwrap()
    }

    /// What the files say.
    pub(crate) fn wanted(&self) -> Ruleset {
        let files = self.files.iter();
        let files = files.map(|(name, text)| (name.as_str(), text.as_bytes()));
        let loaded = source::load_bytes(files).unwrap();
        let cluster = cluster::build(&loaded, validate::Options::default()).unwrap();
        sorted(lower(&compile(&cluster, NODE), &Options::default()))
    }

    /// What the kernel holds, but for what is not ours.
    pub(crate) fn held(&mut self) -> Ruleset {
        sorted(self.world.nftables.read().unwrap().ruleset)
    }

    /// Waits until the kernel holds what the files say, and nothing strange.
    pub(crate) fn quiet(&mut self, agent: &Agent) {
        let wanted = self.wanted();
        self.until("the kernel holds what the files say", agent, |live| {
            live.held() == wanted
        });
    }

    /// Waits for something.
    pub(crate) fn until(
        &mut self,
        what: &str,
        agent: &Agent,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "it does not come to it that {what}:\n{}",
                agent.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends what is always denied and what is always allowed while `work` goes on, and counts. Nothing passes that may
    /// not, and nothing is lost that may.
    pub(crate) fn under_flood<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let flood = self.start_flood();
        let outcome = work(self);
        drop(flood);
        self.check_flood(&[]);
        outcome
    }

    /// The same until what is returned is dropped.
    pub(crate) fn start_flood(&mut self) -> Flood {
        let (denied, allowed) = manifests::always();
        let denied = denied.into_iter().map(|one| frame(one, false));
        let allowed = allowed.into_iter().map(|one| frame(one, true));
        let open = manifests::open().into_iter().map(open_frame);
        self.world.counts();
        self.world
            .start_flood(denied.chain(allowed).chain(open).collect())
    }

    /// What came of it. `done` is what was done meanwhile.
    pub(crate) fn check_flood(&mut self, done: &[String]) {
        let counts = self.world.counts();
        let least = counts.denied.min(counts.allowed).min(counts.open);
        assert!(least > 0, "{counts:?}");
        let wrong = (counts.leaked, counts.lost, counts.broken);
        assert_eq!(wrong, (0, 0, 0), "{counts:?} {done:?}");
    }
}

/// Asks whoever listens in the namespace where the agent does if nobody says otherwise.
pub(crate) fn get(node: &Namespace, path: &str) -> Option<(u16, String)> {
    let connect = || TcpStream::connect(DEFAULT_BIND);
    let mut stream = node.run(connect).unwrap().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A number of a text in Prometheus' format.
pub(crate) fn metric(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, number) = lines.find(|(of, _)| *of == name)?;
    number.parse().ok()
}

/// The chains in one order, since the kernel has them in that in which they were made.
pub(crate) fn sorted(mut ruleset: Ruleset) -> Ruleset {
    for table in &mut ruleset.tables {
        table
            .chains
            .sort_by_key(|chain| (chain.base.is_none(), chain.name.clone()));
    }
    ruleset
}
