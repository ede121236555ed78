//! The comparison of `benches`, with other libraries for graphs of async tasks; with the word
//! `durable`, the one of runs that are kept.

mod async_dag;
mod dagx;
mod durare;

use benches::durable;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if durable::child(&words) {
        return;
    }
    match words.split_first() {
        Some((first, words)) if first == "durable" => {
            let mut contenders = durable::contenders();
            contenders.push(durare::CONTENDER);
            durable::check(&contenders);
            durable::compare(&contenders, words);
        }
        _ => {
            let mut contenders = benches::contenders();
            contenders.extend([dagx::CONTENDER, async_dag::CONTENDER]);
            benches::check(&contenders);
            benches::compare(&contenders, &words);
        }
    }
}
