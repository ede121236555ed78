//! The library, on a store in a file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use orchestrator::prelude::*;

use super::{Contender, Open, Pass, Passes};
use crate::{Shape, flow};

pub(crate) const CONTENDER: Contender = Contender {
    name: flow::NAME,
    runs: |_| true,
    open,
};

struct Own {
    shape: Shape,
    runtime: Runtime,
}

fn open(shape: Shape, folder: PathBuf) -> Open {
    Box::pin(async move {
        Box::new(Own {
            shape,
            runtime: runtime(&folder).await,
        }) as Box<dyn Passes>
    })
}

/// A runtime with a store in this folder.
pub(super) async fn runtime(folder: &Path) -> Runtime {
    let url = format!("sqlite:{}", file(folder).display());
    Runtime::builder()
        .store(url)
        .build()
        .await
        .expect("a store can be made")
}

/// The store's file in this folder.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("runs.db")
}

impl Passes for Own {
    /// As in memory: from the call of the flow function to the output, which comes after the commit
    /// of the run's end.
    fn pass(&mut self) -> Pass<'_> {
        Box::pin(async {
            let begin = Instant::now();
            let value = flow::output(self.shape, &self.runtime).await;
            let time = begin.elapsed();
            assert_eq!(
                value,
                self.shape.expected(),
                "{} on {}",
                flow::NAME,
                self.shape
            );
            time
        })
    }
}
