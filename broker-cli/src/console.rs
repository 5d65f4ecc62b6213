//! Console: where a command reads and writes.

use std::{error::Error, fmt, io};

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt, BufReader};

/// The three streams of a command. Results go to `output` and can be piped on; everything else goes to `notes`.
pub struct Console {
    pub(crate) input: Box<dyn AsyncBufRead + Unpin + Send>,
    output: Box<dyn AsyncWrite + Unpin + Send>,
    notes: Box<dyn AsyncWrite + Unpin + Send>,
}

impl Console {
    /// Those of this process.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(BufReader::new(tokio::io::stdin()), tokio::io::stdout(), tokio::io::stderr())
    }

    /// Any three.
    pub fn new(
        input: impl AsyncBufRead + Unpin + Send + 'static,
        output: impl AsyncWrite + Unpin + Send + 'static,
        notes: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self { input: Box::new(input), output: Box::new(output), notes: Box::new(notes) }
    }

    /// A line of the result, there at once.
    pub(crate) async fn say(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.write(format!("{}\n", line.as_ref()).as_bytes()).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes).await?;
        self.output.flush().await
    }

    /// A line beside the result. Nobody has to read it.
    pub(crate) async fn note(&mut self, line: impl AsRef<str>) {
        let _ = self.notes.write_all(format!("{}\n", line.as_ref()).as_bytes()).await;
        let _ = self.notes.flush().await;
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

/// Whether whoever read our output has gone.
pub(crate) fn is_closed_pipe(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
