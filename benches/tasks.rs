//! `cargo bench -p benches`: the library beside hand-written tokio; with the word `durable`, on a
//! file; with the word `ticks`, by the clock; with the word `cached`, with results that are cached.

use benches::{cached, durable, ticks};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if durable::child(&words) {
        return;
    }
    // Without `--bench` it is a test run: only results count.
    if words.iter().any(|word| word == "--bench") {
        let words: Vec<_> = words
            .into_iter()
            .filter(|word| !word.starts_with("--"))
            .collect();
        match words.split_first() {
            Some((first, words)) if first == "durable" => {
                durable::compare(&durable::contenders(), words)
            }
            Some((first, words)) if first == "cached" => cached::compare(words),
            Some((first, _)) if first == "ticks" => ticks::compare(),
            _ => benches::compare(&benches::contenders(), &words),
        }
    } else {
        benches::check(&benches::contenders());
        durable::check(&durable::contenders());
        cached::check();
    }
}
