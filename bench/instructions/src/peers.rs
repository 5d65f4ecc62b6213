//! Peers: what the benchmark holds local posts against, so that both are counted by the same means.

use std::{collections::HashMap, sync::RwLock};

use bytes::Bytes;
use tokio::{
    runtime::Runtime,
    sync::broadcast::{Receiver, Sender},
};

use crate::{MESSAGES, Outcome, local::names, measure, payload};

/// What anybody would write who has broadcast channels and needs names for them.
type Table = RwLock<HashMap<String, Sender<Bytes>>>;

pub(crate) fn broadcast(runtime: &Runtime, readers: usize) -> Outcome {
    let sender = Sender::new(1024);
    let mut readers: Vec<Receiver<Bytes>> = (0..readers).map(|_| sender.subscribe()).collect();
    measure(runtime, async || {
        for _ in 0..MESSAGES {
            sender.send(payload())?;
            for reader in &mut readers {
                reader.recv().await?;
            }
        }
        Ok(())
    })
}

pub(crate) fn each_of_many(runtime: &Runtime) -> Outcome {
    let (table, names) = (Table::default(), names());
    let mut readers = Vec::new();
    for name in &names {
        readers.push(join(&table, name)?);
    }
    measure(runtime, async || {
        for name in &names {
            let table = table.read().map_err(|_| "poisoned")?;
            table.get(name).ok_or("no such channel")?.send(payload())?;
        }
        for reader in &mut readers {
            reader.recv().await?;
        }
        Ok(())
    })
}

pub(crate) fn subscribe_and_drop(runtime: &Runtime) -> Outcome {
    let (table, names) = (Table::default(), names());
    measure(runtime, async || {
        for name in &names {
            drop(join(&table, name)?);
            table.write().map_err(|_| "poisoned")?.remove(name);
        }
        Ok(())
    })
}

/// With room for one message: the smallest that there is.
fn join(table: &Table, name: &str) -> Outcome<Receiver<Bytes>> {
    let mut table = table.write().map_err(|_| "poisoned")?;
    Ok(table.entry(name.to_owned()).or_insert_with(|| Sender::new(1)).subscribe())
}
