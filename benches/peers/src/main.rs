//! The comparison of `benches`, with other libraries for graphs of async tasks.

mod async_dag;
mod dagx;

fn main() {
    let mut contenders = benches::contenders();
    contenders.extend([dagx::CONTENDER, async_dag::CONTENDER]);
    let words: Vec<String> = std::env::args().skip(1).collect();
    benches::check(&contenders);
    benches::compare(&contenders, &words);
}
