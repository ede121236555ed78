//! `cargo bench -p benches`: the library beside hand-written tokio.

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let contenders = benches::contenders();
    // Without `--bench` it is a test run: only results count.
    if words.iter().any(|word| word == "--bench") {
        let words: Vec<_> = words.into_iter().filter(|word| !word.starts_with("--")).collect();
        benches::compare(&contenders, &words);
    } else {
        benches::check(&contenders);
    }
}
