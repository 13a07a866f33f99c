//! The body of an answer, bounded in size and time.

use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;

use super::Error;
use super::error::chain;

/// The largest line of a watch: etcd takes objects of 1.5 MiB, and JSON may be some times as large.
const LINE: usize = 16 << 20;

/// The largest page of a list.
const PAGE: usize = 128 << 20;

/// The body of an answer, line by line.
#[derive(Debug)]
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// So much of the buffer was given out.
    start: usize,
    /// And so much has no end of a line after that.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
        }
    }

    /// The next line, or nothing if the answer ended behind one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Nothing comes within this time, the answer breaks off, also within a line, or the line is too large.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Vec<u8>>, Error> {
        // An answer that comes all at once would else keep the others waiting.
        tokio::task::coop::consume_budget().await;
        loop {
            let mut rest = self.buffer[self.searched..].iter();
            if let Some(length) = rest.position(|byte| *byte == b'\n') {
                let end = self.searched + length;
                let line = self.buffer[self.start..end].to_vec();
                self.start = end + 1;
                self.searched = self.start;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.searched = self.buffer.len();
            if !self.more(within, LINE).await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(Error::Broken("within a line".to_owned())),
                };
            }
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// It does not come within this time, breaks off, or is too large.
    pub(super) async fn all(self, within: Duration) -> Result<Vec<u8>, Error> {
        self.up_to(within, PAGE).await
    }

    /// All of it, which is no more than so many bytes.
    ///
    /// # Errors
    /// As [`Lines::all`].
    pub(super) async fn up_to(mut self, within: Duration, most: usize) -> Result<Vec<u8>, Error> {
        let all = async {
            while self.more(within, most).await? {}
            Ok(std::mem::take(&mut self.buffer))
        };
        let all = timeout(within, all).await;
        all.unwrap_or(Err(Error::Silent(within)))
    }

    /// The beginning of it, whatever becomes of the rest.
    pub(super) async fn beginning(mut self, within: Duration, most: usize) -> Vec<u8> {
        // What did come is told.
        let _ = timeout(within, async {
            while self.buffer.len() < most && matches!(self.more(within, LINE).await, Ok(true)) {}
        })
        .await;
        self.buffer.truncate(most);
        self.buffer
    }

    /// Takes what comes next; false at the end.
    async fn more(&mut self, within: Duration, most: usize) -> Result<bool, Error> {
        let frame = timeout(within, self.body.frame());
        let frame = frame.await.map_err(|_| Error::Silent(within))?;
        match frame {
            None => Ok(false),
            Some(Err(error)) => Err(Error::Broken(chain(&error))),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if self.buffer.len() + data.len() > most {
                        return Err(Error::TooLarge(most));
                    }
                    self.buffer.extend_from_slice(data);
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    async fn lines(text: &str) -> (Vec<String>, Result<(), Error>) {
        let mut lines = Lines::new(Body::from(text.as_bytes().to_vec()));
        let mut all = Vec::new();
        loop {
            match lines.next(SOON).await {
                Ok(Some(line)) => all.push(String::from_utf8(line).unwrap()),
                Ok(None) => return (all, Ok(())),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_breaks_off_is_no_line() {
        let (all, end) = lines("a\n\nbc\n").await;
        assert_eq!(all, ["a", "", "bc"]);
        assert!(end.is_ok());
        let (all, end) = lines("a\nbc").await;
        assert_eq!(all, ["a"]);
        assert!(matches!(end, Err(Error::Broken(_))));
    }

    #[tokio::test]
    async fn a_line_without_end_is_not_kept() {
        let mut lines = Lines::new(Body::from(vec![b'a'; LINE + 1]));
        assert!(matches!(lines.next(SOON).await, Err(Error::TooLarge(LINE))));
        let all = Lines::new(Body::from(vec![b'a'; LINE + 1])).all(SOON).await;
        assert_eq!(all.unwrap().len(), LINE + 1);
        let lines = Lines::new(Body::from(vec![b'a'; LINE + 1]));
        assert!(matches!(
            lines.up_to(SOON, LINE).await,
            Err(Error::TooLarge(LINE))
        ));
        let lines = Lines::new(Body::from(vec![b'a'; LINE]));
        assert_eq!(lines.beginning(SOON, 10).await.len(), 10);
    }
}
