//! line-server: `line-server <port> <data directory>`, on the loopback interface. It ends with its standard input, so
//! that a test that is killed leaves no server behind.

mod log;
mod operator;
mod router;
mod session;

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process, thread,
};

use self::session::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [port, data] = &arguments[..] else {
        return Err("usage: line-server <port> <data directory>".into());
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    let server = Server::new(Path::new(data))?;
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    for socket in listener.incoming().flatten() {
        let server = server.clone();
        thread::spawn(move || server.serve(socket));
    }
    Ok(())
}
