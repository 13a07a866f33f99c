//! Questions about flows, and their answers.
//!
//! A question is a line of a flows file, or the arguments of `picket explain`:
//! `{"id": 7, "from": "pod/x/a", "to": "pod/y/b", "protocol": "TCP", "port": 80}`.

mod answer;
mod line;
mod question;
mod resolve;

pub use answer::{Answer, Answered, describe};
pub use line::{Fault, LineError, read_lines, write_line};
pub use question::{End, FamilyName, Id, Port, ProtocolName, Question, parse_port};
pub use resolve::{Asked, resolve};
