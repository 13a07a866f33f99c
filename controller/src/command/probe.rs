//! `picket probe`

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time;

use super::{Outcome, stop};
use crate::cli::{Probe, ProbeCommand};

/// What each connection is told. Whoever gets it has reached us, and not a proxy before us.
pub(super) const GREETING: &[u8] = b"picket probe\n";

/// After an error of accept(2), as without free file descriptors: long enough not to spin.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Probe) -> anyhow::Result<Outcome> {
    let ProbeCommand::Listen(arguments) = &arguments.command;
    stop::runtime()?.block_on(async {
        let stopped = stop::stopped()?;
        let listener = bind(arguments.port).await?;
        writeln!(io::stdout(), "listening on port {}", arguments.port)?;
        tokio::select! {
            () = stopped => {}
            () = serve(listener) => {}
        }
        Ok(Outcome::Done)
    })
}

/// Of both families, where the kernel has both.
async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    };
    listener.with_context(|| format!("port {port} can not be listened on"))
}

async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            // It fits into the socket's buffer, so nobody waits for a reader.
            Ok((mut stream, _)) => drop(stream.write_all(GREETING).await),
            Err(_) => time::sleep(PAUSE).await,
        }
    }
}
