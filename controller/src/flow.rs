//! Questions about flows, and their answers.
//!
//! A question is a line of a flows file, or the arguments of `picket explain`:
//! `{"id": 7, "from": "pod/x/a", "to": "pod/y/b", "protocol": "TCP", "port": 80}`.

mod answer;
mod question;
mod resolve;

pub use answer::{Answer, Answered, describe};
pub use question::{End, FamilyName, Port, ProtocolName, Question, parse_port, read_lines};
pub use resolve::{Asked, resolve};
