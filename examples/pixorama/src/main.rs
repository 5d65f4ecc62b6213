//! The program `pixorama`: one server of the board.

use std::{error::Error, net::SocketAddr};

use broker::Options;
use clap::Parser;
use tokio::net::TcpListener;

/// A pixel board that many people paint on, through as many servers as you start.
///
/// Alone: pixorama, and open http://127.0.0.1:8080. One board on two servers: start both with the same --broker, as in
/// redis://localhost, and give the second --port 8081.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The backend between the servers; memory: is this process alone
    #[arg(long, default_value = "memory:", value_name = "URL")]
    broker: String,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let args = Args::parse();
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address}: {error}; choose another with --port"))?;
    // In the background: people can paint on their own server while the backend is unavailable.
    let broker = broker::open(&args.broker, Options::default())?;
    println!("pixorama on http://{}, over {}", listener.local_addr()?, broker.backend().unwrap_or("nothing"));
    let stopped = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    pixorama::serve(listener, broker, pixorama::Limits::default(), stopped).await?;
    Ok(())
}
