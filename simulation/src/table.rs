//! Table: rows in Markdown, each printed as soon as it is known: the next one may take minutes.

/// See the module.
#[derive(Debug)]
pub struct Table(());

impl Table {
    /// Prints a title and the head.
    #[must_use]
    pub fn new(title: &str, head: &[&str]) -> Self {
        println!("\n{title}\n\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        Self(())
    }

    /// Prints one row more.
    pub fn row(&mut self, cells: &[String]) {
        println!("| {} |", cells.join(" | "));
    }
}

/// Bytes for people, in powers of ten.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}

/// A number for people.
#[must_use]
pub fn number(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n if n >= 100.0 || n == 0.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}
