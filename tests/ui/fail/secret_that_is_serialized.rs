use orchestrator::Secret;

#[derive(serde::Serialize)]
struct Account {
    name: String,
    key: Secret,
}

fn main() {}
