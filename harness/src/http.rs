//! HTTP as bytes: what a test writes is what goes out.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, "" when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.text()))
    }
}

/// A connection, kept open.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; reads wait 15 s at most.
    pub fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("set");
        stream.set_nodelay(true).expect("set");
        Self { stream: BufReader::new(stream) }
    }

    /// Writes these bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("written");
    }

    /// Reads an answer; `None` when the connection was closed before one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.read(false)
    }

    /// Sends a request and reads its answer. `head` is the request line and headers, as "GET /ping HTTP/1.1"; the
    /// host and the body's length are added.
    pub fn request(&mut self, head: &str, body: &[u8]) -> Answer {
        let mut request = format!("{}\r\nHost: test\r\n", head.trim_end());
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        self.write(&[request.as_bytes(), b"\r\n", body].concat());
        self.read(head.starts_with("HEAD")).expect("an answer")
    }

    fn read(&mut self, is_head: bool) -> Option<Answer> {
        let status = self.line().filter(|l| !l.is_empty())?;
        let status: u16 = status.split(' ').nth(1)?.parse().expect("a status");
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|l| !l.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status == 100 {
            return self.read(is_head);
        }
        let length = answer.header("content-length").parse().unwrap_or(0);
        if !is_head && length > 0 {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).expect("the body");
        }
        Some(answer)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no answer: {e}"),
        }
    }
}

/// One request on a connection of its own.
pub fn request(addr: SocketAddr, head: &str, body: &[u8]) -> Answer {
    Connection::open(addr).request(head, body)
}
