//! The last row of the terminal, reserved for a bar.
//!
//! All other rows become the terminal's scrolling region. Output to the terminal, by whichever
//! process, therefore appears above the bar. It does not have to be delayed, redirected or redrawn,
//! and none of it is lost if the process dies. A killed process leaves the region behind; `reset`
//! undoes it.

use std::fmt::Write as _;
use std::io::{self, Write as _, stderr};
use std::sync::Arc;

use indicatif::TermLike;
use parking_lot::Mutex;
use rustix::termios::tcgetwinsize;

/// The assumed size of a terminal that does not report its own.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// The minimum number of rows of the terminal.
const FEWEST: u16 = 3;

/// The last row of the terminal behind standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRow(Arc<Mutex<RowState>>);

#[derive(Debug, Default)]
struct RowState {
    /// The text of the row.
    text: String,
    /// The number of rows of the terminal when the last one was reserved.
    taken: Option<u16>,
    is_released: bool,
}

impl LastRow {
    /// Reserves the row, if the terminal has enough rows.
    pub(super) fn new() -> Option<Self> {
        let row = (size().0 >= FEWEST).then(Self::default)?;
        if cfg!(panic = "abort") {
            let (of_panics, report) = (row.clone(), std::panic::take_hook());
            std::panic::set_hook(Box::new(move |panic| {
                of_panics.release();
                report(panic);
            }));
        }
        Some(row)
    }

    /// Releases the row. Nothing is drawn after that.
    pub(super) fn release(&self) {
        // a panic may have happened during a draw
        let Some(mut state) = self.0.try_lock_for(std::time::Duration::from_millis(100)) else {
            return;
        };
        state.is_released = true;
        if let Some(rows) = state.taken.take() {
            show(&released(rows));
        }
    }
}

impl RowState {
    /// Returns the sequence that draws the row. It is written in one call, so that concurrent
    /// output comes before or after it.
    fn drawn(&mut self, rows: u16) -> String {
        let mut drawn = String::new();
        if self.taken != Some(rows) {
            if let Some(before) = self.taken.replace(rows) {
                drawn.push_str(&released(before));
            }
            // the cursor may be on the last row: the new line scrolls, and the cursor goes back up
            // into the region
            let _ = write!(drawn, "\n\x1b7\x1b[1;{}r\x1b8\x1b[1A", rows - 1);
        }
        let _ = write!(
            drawn,
            "\x1b7\x1b[{rows};1H\x1b[2K{}\x1b8",
            self.text.trim_end()
        );
        drawn
    }
}

/// Returns the sequence that makes all rows scroll again and clears the last one.
fn released(rows: u16) -> String {
    format!("\x1b7\x1b[r\x1b[{rows};1H\x1b[2K\x1b8")
}

fn show(text: &str) {
    // if the terminal is gone, there is no bar to draw
    let _ = stderr().write_all(text.as_bytes());
}

/// Returns the rows and columns of the terminal.
fn size() -> (u16, u16) {
    let size = tcgetwinsize(stderr())
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or((ROWS, COLUMNS), |size| (size.ws_row, size.ws_col))
}

/// A bar is one line, so the cursor is never moved between lines.
impl TermLike for LastRow {
    fn width(&self) -> u16 {
        size().1
    }

    fn height(&self) -> u16 {
        1
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().text.push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.lock().text.clear();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let rows = size().0;
        let mut state = self.0.lock();
        if !state.is_released && rows >= FEWEST {
            show(&state.drawn(rows));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_reserved_once_per_terminal_size() {
        let mut state = RowState {
            text: "half   ".to_owned(),
            ..RowState::default()
        };
        let take = |rows: u16| format!("\n\x1b7\x1b[1;{}r\x1b8\x1b[1A", rows - 1);
        let draw = |rows: u16| format!("\x1b7\x1b[{rows};1H\x1b[2Khalf\x1b8");
        assert_eq!(state.drawn(24), take(24) + &draw(24));
        assert_eq!(state.drawn(24), draw(24));
        assert_eq!(state.drawn(10), released(24) + &take(10) + &draw(10));
    }
}
