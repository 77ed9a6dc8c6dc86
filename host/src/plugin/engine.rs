//! The one wasmtime engine of the process and the clock that ends endless loops.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;

use wasmtime::{Config, Engine, OptLevel, Strategy, WasmBacktraceDetails};

use super::limits::{EPOCH_PERIOD, GUEST_STACK_BYTES_MAX};

/// The engine. One for all plugins and generations: they share its epoch clock, and code of one
/// engine never meets types of another.
///
/// # Panics
/// When wasmtime refuses our configuration, which is fixed: a test would see it.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let engine = Engine::new(&config()).expect("wasmtime takes our fixed configuration");
        start_clock(&engine);
        engine
    })
}

/// Sets up what wasmtime keeps per thread, so that a lane's first batch does not pay for it.
pub fn prepare_thread() {
    engine();
    Engine::tls_eager_initialize();
}

/// Proposals that our guest languages do not need are off: each is a surface to attack. Threads,
/// garbage collection, exceptions and async components are not even compiled in (see `Cargo.toml`).
fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // A swap compiles on the one thread that asks for it: with all cores at work the lanes
        // would starve for as long as it takes.
        .parallel_compilation(false)
        // Epochs cost 5 to 7 ns a message, fuel more; fuel would be the same clock twice.
        .epoch_interruption(true)
        .consume_fuel(false)
        .max_wasm_stack(GUEST_STACK_BYTES_MAX)
        // A memory that never moves lets the compiler keep its base address.
        .memory_may_move(false)
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_stack_switching(false)
        // Set explicitly: the default reads an environment variable. Names of functions remain.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// Calls of guests that are under way, in all threads.
static CALLS: Calls =
    Calls { count: AtomicUsize::new(0), lock: Mutex::new(()), begun: Condvar::new() };

struct Calls {
    count: AtomicUsize,
    lock: Mutex<()>,
    begun: Condvar,
}

/// Lets the clock tick as long as it lives.
pub(super) struct Ticking(());

impl Ticking {
    /// A call of a guest begins.
    pub fn begin() -> Self {
        if CALLS.count.fetch_add(1, Ordering::SeqCst) == 0 {
            // Not between the clock's look at the count and its sleep.
            let _looking = CALLS.lock.lock();
            CALLS.begun.notify_one();
        }
        Self(())
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        CALLS.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ticks while guests are called. A plain thread: no task of a runtime can delay it. A call sees its first tick
/// a period after its begin at the latest, and never sooner than a clock that ticks all the time would show it.
fn start_clock(engine: &Engine) {
    let engine = engine.clone();
    let tick = move || {
        loop {
            let looking = CALLS.lock.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |(): &mut ()| CALLS.count.load(Ordering::SeqCst) == 0;
            drop(CALLS.begun.wait_while(looking, idle));
            thread::sleep(EPOCH_PERIOD);
            engine.increment_epoch();
        }
    };
    thread::Builder::new()
        .name("sluice-clock".into())
        .spawn(tick)
        .expect("a process that cannot start its first threads cannot run");
}
