//! No bytes make the reader of type information panic or run for ever.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whalewatch_trackers::btf::Btf;

fuzz_target!(|data: &[u8]| {
    let Ok(btf) = Btf::parse(data.to_vec()) else { return };
    for of in ["task_struct", "a", ""] {
        for path in ["signal", "a.b", ""] {
            let _ = btf.member(of, path);
        }
        let _ = btf.size(of);
    }
    let _ = btf.tracepoint("sched_process_exit");
    let _ = btf.function("bpf_iter_task");
});
