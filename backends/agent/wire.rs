//! What the agent and its host say to each other: frames of a length, a kind and fields.

use std::io::{self, Read};

/// What the host asks.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    /// Start a process.
    Spawn(Spawn),
    /// Kill a process and all of its group.
    Kill { id: u32 },
    /// Try a port of the loopback; with a path, send it a GET that is to be answered with a status.
    Connect { id: u32, port: u16, get: String, wanted: u16 },
    /// Carry connections to an address of the loopback outside, with this number of their target.
    Listen { id: u32, at: u32, port: u16, target: u32 },
    /// Carry what comes over a new connection to the host, with this number, to a port of the loopback.
    Dial { port: u16, number: u32 },
    /// Say whether any process runs: 1 or 0, as the status of a connection.
    HasProcesses { id: u32 },
    /// Say on which ports something listens.
    Listening { id: u32 },
    /// End all processes, then say whether all they sent has been carried out.
    Stop { grace_ms: u32 },
}

/// A process to start.
#[derive(Debug, PartialEq)]
pub(crate) struct Spawn {
    /// Names it in everything said about it.
    pub(crate) id: u32,
    pub(crate) argv: Vec<String>,
    /// On top of the agent's own environment.
    pub(crate) env: Vec<(String, String)>,
    /// Empty: the agent's own.
    pub(crate) workdir: String,
}

/// What the agent says.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// The container is up; these OTLP ports could not be taken.
    Hello { refused_ports: Vec<u16> },
    /// The process runs.
    Started { id: u32 },
    /// The process could not be started.
    NotStarted { id: u32, reason: String },
    /// It wrote this to its standard output (1) or its standard error (2).
    Output { id: u32, stream: u16, bytes: Vec<u8> },
    /// It ended by itself; all it wrote has been sent.
    Exited { id: u32, code: i32 },
    /// It ended by a signal; all it wrote has been sent.
    Signaled { id: u32, signal: i32 },
    /// What a connection came to: 0 refused, 1 accepted, else an HTTP status.
    Connected { id: u32, status: u16 },
    /// A process, or 0 where it is not known which, looked up a name that is not one of the test.
    Asked { id: u32, name: String },
    /// The ports on which something listens.
    Listening { id: u32, ports: Vec<u16> },
    /// All processes have ended; whether all they exported was carried out, whether some had to be
    /// killed, and how often something was sent to where no route leads ([`UNTOLD`] when the kernel
    /// does not say).
    Stopped {
        drained: bool,
        killed: bool,
        unrouted: u32,
        out_of_memory: u32,
        out_of_processes: u32,
    },
}

/// A number nobody counts to.
pub(crate) const UNTOLD: u32 = u32::MAX;

impl Request {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Request::Spawn(spawn) => {
                let mut frame = Frame::new(1).number(spawn.id).text(&spawn.workdir);
                frame = frame.number(spawn.argv.len() as u32);
                frame = spawn.argv.iter().fold(frame, |frame, word| frame.text(word));
                let pairs = spawn.env.iter();
                pairs.fold(frame, |frame, (key, value)| frame.text(key).text(value)).end()
            }
            Request::Kill { id } => Frame::new(2).number(*id).end(),
            Request::Connect { id, port, get, wanted } => {
                let frame = Frame::new(3).number(*id).number((*port).into()).text(get);
                frame.number((*wanted).into()).end()
            }
            Request::Stop { grace_ms } => Frame::new(4).number(*grace_ms).end(),
            Request::Listen { id, at, port, target } => {
                Frame::new(5).number(*id).number(*at).number((*port).into()).number(*target).end()
            }
            Request::Dial { port, number } => {
                Frame::new(6).number((*port).into()).number(*number).end()
            }
            Request::HasProcesses { id } => Frame::new(7).number(*id).end(),
            Request::Listening { id } => Frame::new(8).number(*id).end(),
        }
    }

    /// Blocks until a whole request is there.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Request> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        Request::decode(&frame).ok_or(io::ErrorKind::InvalidData.into())
    }

    fn decode(frame: &[u8]) -> Option<Request> {
        let mut fields = Fields(frame);
        Some(match fields.kind()? {
            1 => Request::Spawn(Spawn::decode(&mut fields)?),
            2 => Request::Kill { id: fields.number()? },
            3 => Request::Connect {
                id: fields.number()?,
                port: fields.number()?.try_into().ok()?,
                get: fields.text()?,
                wanted: fields.number()?.try_into().ok()?,
            },
            4 => Request::Stop { grace_ms: fields.number()? },
            5 => Request::Listen {
                id: fields.number()?,
                at: fields.number()?,
                port: fields.number()?.try_into().ok()?,
                target: fields.number()?,
            },
            6 => {
                Request::Dial { port: fields.number()?.try_into().ok()?, number: fields.number()? }
            }
            7 => Request::HasProcesses { id: fields.number()? },
            8 => Request::Listening { id: fields.number()? },
            _ => return None,
        })
    }
}

impl Spawn {
    fn decode(fields: &mut Fields<'_>) -> Option<Spawn> {
        let id = fields.number()?;
        let workdir = fields.text()?;
        let words = fields.number()?;
        let argv = (0..words).map(|_| fields.text()).collect::<Option<_>>()?;
        let mut env = Vec::new();
        while !fields.0.is_empty() {
            env.push((fields.text()?, fields.text()?));
        }
        Some(Spawn { id, argv, env, workdir })
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Hello { refused_ports } => {
                let ports = refused_ports.iter();
                ports.fold(Frame::new(1), |frame, port| frame.number((*port).into())).end()
            }
            Reply::Started { id } => Frame::new(2).number(*id).end(),
            Reply::NotStarted { id, reason } => Frame::new(3).number(*id).text(reason).end(),
            Reply::Output { id, stream, bytes } => {
                Frame::new(4).number(*id).number((*stream).into()).bytes(bytes).end()
            }
            Reply::Exited { id, code } => Frame::new(5).number(*id).number(*code as u32).end(),
            Reply::Signaled { id, signal } => {
                Frame::new(6).number(*id).number(*signal as u32).end()
            }
            Reply::Connected { id, status } => {
                Frame::new(7).number(*id).number((*status).into()).end()
            }
            Reply::Listening { id, ports } => {
                let frame = Frame::new(10).number(*id);
                ports.iter().fold(frame, |frame, port| frame.number((*port).into())).end()
            }
            Reply::Asked { id, name } => Frame::new(9).number(*id).text(name).end(),
            Reply::Stopped { drained, killed, unrouted, out_of_memory, out_of_processes } => {
                let frame = Frame::new(8).number((*drained).into()).number((*killed).into());
                frame.number(*unrouted).number(*out_of_memory).number(*out_of_processes).end()
            }
        }
    }

    /// A reply without its length, or `None` for one that is not ours.
    pub(crate) fn decode(frame: &[u8]) -> Option<Reply> {
        let mut fields = Fields(frame);
        Some(match fields.kind()? {
            1 => {
                let mut refused_ports = Vec::new();
                while !fields.0.is_empty() {
                    refused_ports.push(fields.number()?.try_into().ok()?);
                }
                Reply::Hello { refused_ports }
            }
            2 => Reply::Started { id: fields.number()? },
            3 => Reply::NotStarted { id: fields.number()?, reason: fields.text()? },
            4 => Reply::Output {
                id: fields.number()?,
                stream: fields.number()?.try_into().ok()?,
                bytes: fields.bytes()?.to_vec(),
            },
            5 => Reply::Exited { id: fields.number()?, code: fields.number()? as i32 },
            6 => Reply::Signaled { id: fields.number()?, signal: fields.number()? as i32 },
            7 => {
                Reply::Connected { id: fields.number()?, status: fields.number()?.try_into().ok()? }
            }
            8 => Reply::Stopped {
                drained: fields.number()? != 0,
                killed: fields.number()? != 0,
                unrouted: fields.number()?,
                out_of_memory: fields.number()?,
                out_of_processes: fields.number()?,
            },
            10 => {
                let id = fields.number()?;
                let mut ports = Vec::new();
                while !fields.0.is_empty() {
                    ports.push(fields.number()?.try_into().ok()?);
                }
                Reply::Listening { id, ports }
            }
            9 => Reply::Asked { id: fields.number()?, name: fields.text()? },
            _ => return None,
        })
    }
}

/// A frame being written; its first four bytes are its length without them.
struct Frame(Vec<u8>);

impl Frame {
    fn new(kind: u8) -> Frame {
        Frame(vec![0, 0, 0, 0, kind])
    }

    fn number(mut self, number: u32) -> Frame {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Frame {
        let mut frame = self.number(bytes.len() as u32);
        frame.0.extend(bytes);
        frame
    }

    fn text(self, text: &str) -> Frame {
        self.bytes(text.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// What is left to read of a frame.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn kind(&mut self) -> Option<u8> {
        let (kind, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*kind)
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}
