//! Server-Sent Events taken apart, as the HTML standard says it, from whatever pieces they come in.

use std::collections::VecDeque;
use std::time::Duration;

/// What a stream said at once: at least one of an id and some data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    /// Its name; empty without one.
    pub(super) event: String,
    pub(super) data: String,
}

/// Takes pieces of a stream, and gives the messages that are whole.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// What has come of a line.
    line: Vec<u8>,
    /// The last character was a carriage return: a line feed after it belongs to it.
    is_after_return: bool,
    message: Message,
    ready: VecDeque<Message>,
    retry: Option<Duration>,
}

impl Parser {
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for &byte in piece {
            let was_after_return = std::mem::replace(&mut self.is_after_return, byte == b'\r');
            match byte {
                b'\n' if was_after_return => {}
                b'\n' | b'\r' => self.take_line(),
                _ => self.line.push(byte),
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    /// When to come back, if the stream has said it.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let mut message = std::mem::take(&mut self.message);
            // Each line of it has added one.
            if message.data.ends_with('\n') {
                message.data.pop();
            }
            if message.id.is_some() || !message.data.is_empty() {
                self.ready.push_back(message);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.message.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                self.message.data.push_str(value);
                self.message.data.push('\n');
            }
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis),
            // A comment begins with the colon.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(pieces: &[&[u8]]) -> Vec<(Option<String>, String, String)> {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.feed(piece);
        }
        std::iter::from_fn(|| parser.next())
            .map(|message| (message.id, message.event, message.data))
            .collect()
    }

    fn message(id: &str, event: &str, data: &str) -> (Option<String>, String, String) {
        (Some(id.to_owned()), event.to_owned(), data.to_owned())
    }

    #[test]
    fn messages_are_whole_whatever_pieces_they_come_in() {
        let stream = ": following\nretry: 1500\n\nid: a\ndata: {\"é\": 1}\n\n:\n\nevent: end\nid: b\ndata: x\ndata:  y\n\n";
        let expected = [message("a", "", "{\"é\": 1}"), message("b", "end", "x\n y")];
        assert_eq!(messages(&[stream.as_bytes()]), expected);
        let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(messages(&single), expected);
    }

    #[test]
    fn lines_may_end_in_any_of_three_ways() {
        let expected = [message("a", "", "1"), message("b", "", "2")];
        for end in ["\n", "\r", "\r\n"] {
            let stream = "id: a|data: 1||id: b|data: 2||".replace('|', end);
            assert_eq!(messages(&[stream.as_bytes()]), expected, "{end:?}");
        }
    }

    #[test]
    fn an_id_alone_is_a_message_and_a_comment_is_none() {
        assert_eq!(
            messages(&[b"id: a\n: following\n\n: still here\n\n"]),
            [message("a", "", "")]
        );
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        assert_eq!(messages(&[b"id: a\ndata: 1\n"]), []);
    }

    #[test]
    fn it_says_when_to_come_back() {
        let mut parser = Parser::default();
        parser.feed(b"retry: 700\n\n");
        assert_eq!(parser.retry(), Some(Duration::from_millis(700)));
        assert_eq!(parser.next(), None);
    }
}
