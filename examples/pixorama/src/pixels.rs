//! Pixels: the streaming methods of the board, `pixorama.setPixel`, `imageUpdates` and `status`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker::{Model, StreamError};
use broker_streams::{Args, ByteData, Call, Choice, Endpoint, Failure, Fault, Out, State, method};
use serde::{Deserialize, Serialize};

use crate::{
    board::{COLOURS, SIDE},
    cluster::{Change, Cluster},
    limits::{Budget, Limits},
    status::{Present, Status},
};

/// What the methods need.
#[derive(Clone)]
pub(crate) struct Board {
    cluster: Arc<Cluster>,
    strokes: Arc<Mutex<Budget>>,
    status_pause: Duration,
}

impl Board {
    pub(crate) fn new(cluster: Arc<Cluster>, limits: &Limits) -> Self {
        let strokes = Budget::new(limits.strokes_a_second, limits.strokes_at_once, Instant::now());
        Self { cluster, strokes: Arc::new(Mutex::new(strokes)), status_pause: limits.status_pause }
    }

    fn whole(&self) -> View {
        let (width, height) = (SIDE as u32, SIDE as u32);
        View::Whole(ImageData { pixels: ByteData(self.cluster.colours().into()), width, height })
    }
}

/// Everybody may look and paint.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::new("pixorama")
        .method("setPixel", set_pixel)
        .method("imageUpdates", method(image_updates).resumable())
        // Not resumable: while it is open somebody is here.
        .method("status", status)
}

/// The whole board, a byte for each pixel.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
struct ImageData {
    pixels: ByteData,
    width: u32,
    height: u32,
}

/// One pixel of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, Model)]
#[serde(rename_all = "camelCase")]
struct ImageUpdate {
    pixel_index: u16,
    color_index: u8,
}

/// What a page is sent.
#[derive(Debug, Choice)]
enum View {
    Whole(ImageData),
    Pixel(ImageUpdate),
}

/// Wide numbers, so that what is out of range is a fault that says so.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetPixel {
    pixel_index: i64,
    color_index: i64,
}

/// Why a pixel was not painted.
#[derive(Debug, Serialize, Deserialize, Fault)]
enum NotPainted {
    #[serde(rename_all = "camelCase")]
    NoSuchPixel {
        pixel_index: i64,
    },
    #[serde(rename_all = "camelCase")]
    NoSuchColor {
        color_index: i64,
    },
    TooFast {},
    /// It is on this server's board, and not on its way to the others.
    OnlyHere {
        why: String,
    },
}

impl fmt::Display for NotPainted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPixel { pixel_index } => write!(f, "there is no pixel {pixel_index}"),
            Self::NoSuchColor { color_index } => write!(f, "there is no colour {color_index}"),
            Self::TooFast {} => f.write_str("too many strokes at once"),
            Self::OnlyHere { why } => write!(f, "only this server has it: {why}"),
        }
    }
}

impl std::error::Error for NotPainted {}

async fn set_pixel(
    call: Call,
    Args(asked): Args<SetPixel>,
    State(board): State<Board>,
) -> Result<(), NotPainted> {
    let SetPixel { pixel_index, color_index } = asked;
    let on_board = |index: &u16| usize::from(*index) < SIDE * SIDE;
    let index = u16::try_from(pixel_index).ok().filter(on_board);
    let index = index.ok_or(NotPainted::NoSuchPixel { pixel_index })?;
    let colour = u8::try_from(color_index).ok().filter(|colour| *colour < COLOURS);
    let colour = colour.ok_or(NotPainted::NoSuchColor { color_index })?;
    if !board.strokes.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
        return Err(NotPainted::TooFast {});
    }
    let painted = board.cluster.paint(call.session(), index, colour).await;
    painted.map_err(|error| NotPainted::OnlyHere { why: error.public_message().to_owned() })
}

/// Subscribes first, so that no change falls between the whole board and the first one after it.
async fn image_updates(State(board): State<Board>, out: Out<View>) -> Result<(), Failure> {
    let mut changes = board.cluster.changes().await?;
    out.send(board.whole()).await?;
    while let Some(change) = changes.next().await {
        let view = match change.as_deref() {
            Ok(Change::Pixel(index)) => board
                .cluster
                .colour(*index)
                .map(|color_index| View::Pixel(ImageUpdate { pixel_index: *index, color_index })),
            // After a gap the client was too slow for single pixels.
            Ok(Change::Everything) | Err(StreamError::Gap(_)) => Some(board.whole()),
            Err(_) => None,
        };
        if let Some(view) = view {
            out.send(view).await?;
        }
    }
    Ok(())
}

/// The line under the board, now and whenever it changes. Who has it open is counted as a person.
async fn status(State(board): State<Board>, out: Out<Status>) -> Result<(), Failure> {
    let _present = Present::new(board.cluster.status.clone());
    let mut status = board.cluster.status.subscribe();
    loop {
        let now = status.borrow_and_update().clone();
        out.send(now).await?;
        tokio::time::sleep(board.status_pause).await;
        if status.changed().await.is_err() {
            return Ok(());
        }
    }
}
