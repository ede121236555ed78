use orchestrator::prelude::*;

#[task(retries = 3, retry_if = is_transient)]
async fn extract() -> Result<u32> {
    Ok(1)
}

fn is_transient(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut
}

fn main() {}
