//! Operator: what somebody who runs the server does to it, and the test harness with it. `OPERATOR` is the first line;
//! each command after it gets one line.

use std::{
    io::{self, Write},
    net::TcpStream,
};

use crate::{
    router::Allowed,
    session::{Input, Server},
};

pub(crate) fn serve(server: &Server, mut socket: &TcpStream, mut input: Input) -> io::Result<()> {
    loop {
        let answer = command(server, &mut input)?;
        writeln!(socket, "{answer}")?;
    }
}

/// Reads one command, and carries it out.
fn command(server: &Server, input: &mut Input) -> io::Result<String> {
    let line = input.line()?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["CHANNELS"] => return Ok(server.router().channels().collect::<Vec<_>>().join(" ")),
        ["CLIENTS"] => return Ok(server.router().clients().to_string()),
        ["CUT"] => server.router().cut_off_all(),
        ["PUB", channel, length] => {
            let bytes = input.bytes(length)?;
            if let Err(why) = server.router().publish(channel, &bytes) {
                return Ok(format!("NO {why}"));
            }
        }
        ["ALLOW", "everything"] => server.router().allowed = Allowed::Everything,
        ["ALLOW", "nothing"] => server.router().allowed = Allowed::Nothing,
        ["ALLOW", "start", start] => server.router().allowed = Allowed::Start(start.to_owned()),
        ["WIPE"] => server.logs().wipe()?,
        ["TRIM"] => server.logs().trim()?,
        _ => return Ok("NO protocol no such command".to_owned()),
    }
    Ok("OK".to_owned())
}
