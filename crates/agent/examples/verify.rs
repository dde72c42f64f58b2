use aya::{EbpfLoader, VerifierLogLevel, programs::Program};
fn main() {
    for (name, obj) in [("weir", agent::object::WEIR), ("bench", agent::object::BENCH)] {
        let mut l = EbpfLoader::new();
        l.map_max_entries("PENDING", 65536);
        l.verifier_log_level(VerifierLogLevel::STATS);
        let mut e = match l.load(obj) {
            Ok(e) => e,
            Err(x) => {
                println!("{name}: load {x:?}");
                continue;
            }
        };
        for (n, p) in e.programs_mut() {
            let r = match p {
                Program::Xdp(p) => p.load(),
                Program::SchedClassifier(p) => p.load(),
                Program::SockOps(p) => p.load(),
                Program::CgroupSock(p) => p.load(),
                Program::TracePoint(p) => p.load(),
                _ => {
                    println!("{n}: other");
                    continue;
                }
            };
            match r {
                Ok(()) => {
                    let i = p.info().unwrap();
                    println!(
                        "{name}/{n}: ok insns {:?} jit {:?}",
                        i.verified_instruction_count(),
                        i.size_jitted()
                    )
                }
                Err(x) => {
                    let s = format!("{x:#?}").replace("\\n", "\n");
                    let t: Vec<_> = s.lines().collect();
                    println!("{name}/{n}: FAIL");
                    for l in &t[..] {
                        println!("   {l}")
                    }
                }
            }
        }
    }
}
