//! The frames between a streaming server and its clients: text to frames and back.
//!
//! A frame is JSON text, `{"type":…,"data":{…}}`. [`Frame::read`] reads one and borrows from the text;
//! each kind has a function that writes it, with its members in the order of Serverpod's own encoder. What the
//! extension `x1` adds is read only where both ends have agreed on it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod call_id;
mod extension;
mod frame;
mod object;
mod read;
mod scan;
mod why;
mod write;

pub use crate::{
    call_id::CallId,
    extension::{
        Agreement, Authenticate, Authenticated, Bye, Credential, OpenExtra, OpenedExtra, Resume, ResumeCall,
        Resumed, ResumedCall, Token,
    },
    frame::{Close, CloseReason, Flow, Frame, Gap, Item, Open, OpenResult, Opened, Target},
    read::{BadFrame, Extension},
    scan::scan,
    why::{Again, Cause, Why},
    write::{
        Values, write_bad_request, write_close, write_data, write_fault, write_flow, write_gap, write_open,
        write_opened, write_ping, write_pong,
    },
};
