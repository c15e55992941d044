//! Runs the conformance suite by hand: `conformance sandbox|podman [image] [case]`.

use clnrm_backends::conformance::{Bench, cases};
use clnrm_backends::{Backend, Podman, Sandbox, sandbox_main};

fn main() {
    sandbox_main();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = std::env::temp_dir().join("clnrm-conformance");
    std::fs::create_dir_all(dir.join("data")).unwrap();
    std::fs::write(dir.join("data/note"), "from the workspace\n").unwrap();
    let backend: Box<dyn Backend> = match args[0].as_str() {
        "sandbox" => Box::new(Sandbox::new(&dir, &std::env::current_exe().unwrap())),
        _ => Box::new(Podman::connect("/run/podman/podman.sock".as_ref(), &dir).unwrap()),
    };
    let image = backend.image(args.get(1).map_or("host", |s| s)).unwrap().expect("no such image");
    let bench = Bench { backend: &*backend, image, workspace: &dir };
    let mut failed = 0;
    for case in cases().iter().filter(|c| args.get(2).is_none_or(|a| c.name.contains(a))) {
        let began = std::time::Instant::now();
        let result = case.run(&bench);
        failed += usize::from(result.is_err());
        println!("{:8.1?} {} {}", began.elapsed(), case.name, result.err().unwrap_or("ok".into()));
    }
    std::process::exit((failed > 0).into());
}
