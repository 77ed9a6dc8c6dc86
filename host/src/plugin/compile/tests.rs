//! The process that compiles, which is this test's own program here.

use super::*;

/// Set for the process that compiles, to what it is to do.
const ROLE: &str = "SLUICE_TEST_COMPILES";

/// This program, asked to run [`compiles`] and nothing else.
pub(super) fn command() -> Command {
    in_role("compile")
}

fn in_role(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "plugin::compile::tests::compiles", "--nocapture"]);
    command.env_clear().env(ROLE, role);
    command
}

/// Allows so many seconds of processor time, because tests cannot wait for a minute.
fn hurry(seconds: u64) {
    limit_this_process();
    limit(libc::RLIMIT_CPU, seconds, 1);
}

/// No test but where it is the process that compiles.
#[test]
fn compiles() {
    match std::env::var(ROLE).as_deref() {
        Ok("compile") => assert_eq!(child(), ExitCode::SUCCESS),
        Ok("spin") => {
            hurry(1);
            loop {
                std::hint::spin_loop();
            }
        }
        Ok("compile hastily") => {
            hurry(3);
            assert_eq!(child(), ExitCode::SUCCESS);
        }
        Ok("allocate") => {
            limit_this_process();
            let all: Vec<Vec<u8>> = (0..64).map(|_| vec![0; 1 << 28]).collect();
            std::hint::black_box(all);
        }
        Ok("panic") => panic!("register allocation\nis at a loss\u{1b}[2J"),
        _ => {}
    }
}

/// What becomes of a process that does something else than to compile.
fn ends(role: &str) -> String {
    let compilation = Compilation::start(in_role(role), b"").unwrap();
    compilation.finish(&Stop::default()).unwrap_err().to_string()
}

/// The smallest component there is.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn number(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    number(bytes, content.len());
    bytes.extend(content);
}

/// A component with a module of one function, `(func (param i32) (result i32) (local i64)* ...)`.
fn component_of(locals: usize, code: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(locals > 0)];
    if locals > 0 {
        number(&mut body, locals);
        body.push(0x7e);
    }
    body.extend(code);
    body.push(0x0b);
    let mut functions = vec![1];
    number(&mut functions, body.len());
    functions.extend(body);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 1, 0x7f, 1, 0x7f]);
    section(&mut module, 3, &[1, 0]);
    section(&mut module, 10, &functions);
    let mut component = EMPTY.to_vec();
    section(&mut component, 1, &module);
    component
}

/// Each of `count` locals is made of others, in an order in which all of them live through all of it.
fn locals(count: usize) -> Vec<u8> {
    let mut code = Vec::new();
    for round in 0..8 {
        for local in 1..=count {
            code.push(0x20);
            number(&mut code, 1 + (local * 7919 + round) % count);
            code.push(0x20);
            number(&mut code, local);
            code.extend([0x7c, 0x21]);
            number(&mut code, local);
        }
    }
    code.extend([0x20, 0]);
    component_of(count, &code)
}

/// So many blocks in one another, and in the innermost one as many jumps out of all of them.
fn jumps(depth: usize, count: usize) -> Vec<u8> {
    let mut code = [0x02, 0x40].repeat(depth);
    for jump in 0..count {
        // Only if the parameter says so, so that the next one is reached as well.
        code.extend([0x02, 0x40, 0x20, 0x00, 0x45, 0x0d, 0x00, 0x20, 0x00, 0x0e]);
        number(&mut code, depth);
        (0..depth).for_each(|target| number(&mut code, 1 + (target * 31 + jump) % depth));
        code.extend([0x00, 0x0b]);
    }
    code.extend([0x0b].repeat(depth));
    code.extend([0x20, 0]);
    component_of(0, &code)
}

/// A single expression, as large as a function may be.
fn expression(terms: usize) -> Vec<u8> {
    let mut code = vec![0x20, 0];
    (0..terms).for_each(|_| code.extend([0x20, 0, 0x6a]));
    component_of(0, &code)
}

/// Blocks in blocks, as many as the validator lets through.
fn nested(depth: usize) -> Vec<u8> {
    let mut code = [0x02, 0x40].repeat(depth);
    code.extend([0x0b].repeat(depth));
    code.extend([0x20, 0]);
    component_of(0, &code)
}

#[test]
fn a_component_is_compiled_or_refused() {
    for good in [EMPTY.to_vec(), locals(10), jumps(3, 5), expression(100), nested(50)] {
        compile(&good, &Stop::default()).unwrap();
    }
    let refused = compile(b"\0asm\x0d\0\x01\0nonsense", &Stop::default()).unwrap_err();
    assert_eq!(refused.code(), "SL-G007", "{refused}");
}

/// Each would keep the compiler busy for minutes, or for gigabytes.
#[test]
fn components_that_are_made_to_keep_the_compiler_busy_are_refused_within_its_limits() {
    let bombs = [
        ("locals", locals(40_000)),
        ("jumps", jumps(2_000, 1_500)),
        ("expression", expression(2_500_000)),
        ("nested", nested(1_000_000)),
    ];
    let mut limited = 0;
    for (name, bomb) in bombs {
        let (begun, bytes) = (Instant::now(), bomb.len());
        let compilation = Compilation::start(in_role("compile hastily"), &bomb).unwrap();
        let end = match compilation.finish(&Stop::default()) {
            Ok(compiled) => format!("{} bytes", compiled.len()),
            Err(fault @ PluginFault::CompileLimit(_)) => {
                limited += 1;
                fault.to_string()
            }
            Err(fault @ PluginFault::Compile(_)) => fault.to_string(),
            Err(other) => panic!("{other}"),
        };
        println!("{name}, {bytes} bytes: {end} after {:?}", begun.elapsed());
    }
    assert!(limited > 0, "none of them keeps the compiler busy any more");
}

#[test]
fn a_compiler_that_takes_too_much_or_panics_is_told_as_such() {
    let text = ends("spin");
    assert!(text.ends_with("took more than 60s of processor time"), "{text}");
    let text = ends("allocate");
    assert!(text.ends_with("took more than 4 GiB of memory"), "{text}");
    let text = ends("panic");
    assert!(text.contains(r"register allocation is at a loss\u{1b}[2J"), "{text}");
}

#[test]
fn a_compilation_ends_at_once_when_nobody_wants_it_any_more() {
    let stop = Stop::default();
    let compilation = Compilation::start(in_role("spin"), b"").unwrap();
    let process = compilation.child.id();
    stop.set();
    assert!(matches!(compilation.finish(&stop), Err(PluginFault::Interrupted)));
    assert!(!std::path::Path::new(&format!("/proc/{process}")).exists());
}
