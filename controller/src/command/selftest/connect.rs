//! Connections, each a new one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::probe::GREETING;

/// For a connection and its answer. A lost SYN is sent again after one second.
const LIMIT: Duration = Duration::from_secs(2);

/// What became of a connection to each address.
pub(super) async fn all(addresses: &[IpAddr], port: u16) -> Vec<(IpAddr, Result<(), String>)> {
    let each = addresses.iter().map(async |&address| {
        let answered = timeout(LIMIT, ask(SocketAddr::new(address, port))).await;
        let answered =
            answered.unwrap_or_else(|_| Err("nothing came within two seconds".to_owned()));
        (address, answered)
    });
    join_all(each).await
}

/// Whether the server itself answers.
async fn ask(to: SocketAddr) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect(to).await.map_err(failed)?;
    let mut answer = Vec::new();
    let longest = GREETING.len() as u64 + 1;
    let read = stream.take(longest).read_to_end(&mut answer).await;
    read.map_err(failed)?;
    match answer == GREETING {
        true => Ok(()),
        false => Err("somebody else answers".to_owned()),
    }
}
