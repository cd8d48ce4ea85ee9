//! Tasks of a port that keep a processor busy, such as a connection that sends a large answer. Tasks that acknowledge
//! data would wait for a busy task, so it continues on threads that leave the processors to others, until it pauses.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// Processor time after which a task is busy, less a part of the time in which it waits.
const BUSY: Duration = Duration::from_millis(20);

/// Divisor of the waiting time that is subtracted, so that a task that uses less than a fifth of a processor is never
/// busy.
const WAITING_PART: u32 = 4;

tokio::task_local! {
    /// The connection of the current request.
    static CONNECTION: Arc<Connection>;
}

thread_local! {
    /// Whether this thread is polling a task that was moved off the threads of its port.
    static IS_ELSEWHERE: Cell<bool> = const { Cell::new(false) };
}

/// A task of a port.
pub type PortTask = BoxFuture<'static, ()>;

/// Threads that leave the processors to others.
pub trait BusyTaskThreads: Send + Sync {
    /// Polls a future on these threads until it is complete.
    fn drive(&self, future: BoxFuture<'static, Option<PortTask>>) -> BoxFuture<'static, Option<PortTask>>;

    /// The processor time that the current thread has used.
    fn thread_time(&self) -> Duration;
}

/// Starts the tasks of a port, or of one of its connections. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct TaskSpawner {
    /// `None`: all tasks stay on the threads of the port.
    threads: Option<Arc<dyn BusyTaskThreads>>,
    connection: Arc<Connection>,
}

/// Why the tasks of a connection stay on the threads of the port, even if they are busy. Elsewhere, acknowledgements would
/// wait for programs that fill the processors, and other acknowledgements would wait for locks that the tasks hold.
#[derive(Default)]
struct Connection {
    /// Data is logged on it.
    logs_data: AtomicBool,
    /// Changes that are being made by its requests.
    changes: AtomicUsize,
}

impl Connection {
    fn is_kept(&self) -> bool {
        self.logs_data.load(Ordering::Relaxed) || self.changes.load(Ordering::Relaxed) > 0
    }
}

impl TaskSpawner {
    pub(crate) fn with_busy_tasks_on(threads: Arc<dyn BusyTaskThreads>) -> Self {
        Self { threads: Some(threads), ..Self::default() }
    }

    /// The spawner of a new connection.
    pub(crate) fn of_connection(&self) -> Self {
        Self { threads: self.threads.clone(), ..Self::default() }
    }

    /// Does the work of a request of the connection.
    pub(crate) async fn enclose<T>(self, work: impl Future<Output = T>) -> T {
        CONNECTION.scope(self.connection, work).await
    }

    /// A task that continues on other threads while it is busy.
    pub(crate) fn task(self, task: impl Future<Output = ()> + Send + 'static) -> PortTask {
        let task = Box::pin(task);
        match self.threads {
            Some(threads) => Box::pin(MovingTask { threads, connection: self.connection }.run(task)),
            None => task,
        }
    }
}

/// Keeps the tasks of a connection on the threads of its port until a call that is acknowledged has been answered.
pub(crate) struct CallOnPort(Option<Arc<Connection>>);

impl CallOnPort {
    /// For a call that logs data. Its connection stays on the threads of the port for good.
    pub(crate) fn for_data() -> Self {
        if let Ok(connection) = CONNECTION.try_with(Arc::clone) {
            connection.logs_data.store(true, Ordering::Relaxed);
        }
        Self(None)
    }

    /// For a call that changes something. Its connection may move again after the call.
    pub(crate) fn for_change() -> Self {
        let connection = CONNECTION.try_with(Arc::clone).ok();
        if let Some(connection) = &connection {
            connection.changes.fetch_add(1, Ordering::Relaxed);
        }
        Self(connection)
    }

    /// Returns on the threads of the port, if the call is made by a task of the port.
    pub(crate) async fn begin(&self) {
        if IS_ELSEWHERE.get() {
            yield_now().await;
        }
    }
}

impl Drop for CallOnPort {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.changes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where a task is polled, and how long it stays there.
#[derive(Clone)]
struct MovingTask {
    threads: Arc<dyn BusyTaskThreads>,
    connection: Arc<Connection>,
}

impl MovingTask {
    async fn run(self, task: PortTask) {
        let mut rest = Some(task);
        while let Some(task) = rest {
            rest = match self.until_busy(task).await {
                Some(busy) => self.threads.drive(Box::pin(self.clone().until_pause(busy))).await,
                None => None,
            };
        }
    }

    /// Runs a task until it is complete or busy. Returns a busy task.
    async fn until_busy(&self, mut task: PortTask) -> Option<PortTask> {
        let mut load = Load { used: Duration::ZERO };
        let mut last_work = Instant::now();
        let wakes = Wakes::new(last_work);
        let waker = Waker::from(wakes.clone());
        let is_busy = poll_fn(|context| {
            wakes.driver.register(context.waker());
            // Time in which the task could go on, but other programs have the processors, is no waiting time.
            let Some(woken) = wakes.first.lock().take() else { return Poll::Pending };
            load.wait(woken.saturating_duration_since(last_work));
            let mut context_of_task = Context::from_waker(&waker);
            let polled = load.measure(&*self.threads, || task.as_mut().poll(&mut context_of_task));
            last_work = Instant::now();
            match polled {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending if load.is_busy() && !self.connection.is_kept() => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            }
        });
        is_busy.await.then_some(task)
    }

    /// Runs a busy task until it is complete, pauses, or is kept on the threads of the port. Returns a task that is not
    /// complete.
    async fn until_pause(self, mut task: PortTask) -> Option<PortTask> {
        let mut load = Load { used: BUSY };
        let mut last_work = Instant::now();
        let wakes = Wakes::new(last_work);
        let waker = Waker::from(wakes.clone());
        let mut pause = pin!(sleep(load.pause()));
        let is_paused = poll_fn(|context| {
            wakes.driver.register(context.waker());
            // Time in which the task could go on, but others have the threads, is no pause.
            let Some(woken) = wakes.first.lock().take() else {
                return pause.as_mut().poll(context).map(|()| true);
            };
            load.wait(woken.saturating_duration_since(last_work));
            if load.used.is_zero() {
                return Poll::Ready(true);
            }
            let mut context_of_task = Context::from_waker(&waker);
            IS_ELSEWHERE.set(true);
            let polled = load.measure(&*self.threads, || task.as_mut().poll(&mut context_of_task));
            IS_ELSEWHERE.set(false);
            last_work = Instant::now();
            if polled.is_ready() {
                return Poll::Ready(false);
            }
            if self.connection.is_kept() {
                return Poll::Ready(true);
            }
            pause.as_mut().reset(last_work + load.pause());
            // Registers the new time.
            pause.as_mut().poll(context).map(|()| true)
        });
        is_paused.await.then_some(task)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskSpawner {
    fn execute(&self, task: F) {
        tokio::spawn(self.clone().task(task));
    }
}

/// Remembers when a task could first go on.
struct Wakes {
    driver: AtomicWaker,
    first: Mutex<Option<Instant>>,
}

impl Wakes {
    /// For a task that can go on since a time.
    fn new(since: Instant) -> Arc<Self> {
        Arc::new(Self { driver: AtomicWaker::new(), first: Mutex::new(Some(since)) })
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.first.lock().get_or_insert_with(Instant::now);
        self.driver.wake();
    }
}

/// How much a task has kept a processor busy lately.
struct Load {
    /// Processor time, less a part of the time in which the task waited.
    used: Duration,
}

impl Load {
    fn wait(&mut self, time: Duration) {
        self.used = self.used.saturating_sub(time / WAITING_PART);
    }

    /// Runs a part of the task, and adds its processor time.
    fn measure<T>(&mut self, threads: &dyn BusyTaskThreads, part: impl FnOnce() -> T) -> T {
        let begun = threads.thread_time();
        let done = part();
        let time = threads.thread_time().saturating_sub(begun);
        self.used = (self.used + time).min(BUSY);
        done
    }

    fn is_busy(&self) -> bool {
        self.used >= BUSY
    }

    /// Waiting time after which nothing of the load is left.
    fn pause(&self) -> Duration {
        self.used * WAITING_PART
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    thread_local! {
        /// The processor time that tasks of this test say they have used.
        static USED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    tokio::task_local! {
        /// Set while a task is driven on threads for busy tasks.
        static ELSEWHERE: ();
    }

    struct MarkedThreads;

    impl BusyTaskThreads for MarkedThreads {
        fn drive(
            &self,
            future: BoxFuture<'static, Option<PortTask>>,
        ) -> BoxFuture<'static, Option<PortTask>> {
            Box::pin(ELSEWHERE.scope((), future))
        }

        fn thread_time(&self) -> Duration {
            USED.get()
        }
    }

    /// Threads that are busy with other work for this time whenever a task can go on.
    struct LateThreads(Duration);

    impl BusyTaskThreads for LateThreads {
        fn drive(
            &self,
            mut future: BoxFuture<'static, Option<PortTask>>,
        ) -> BoxFuture<'static, Option<PortTask>> {
            let late = self.0;
            let driven = async move {
                let mut turn = Box::pin(sleep(late));
                poll_fn(|context| {
                    if turn.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    turn.set(sleep(late));
                    future.as_mut().poll(context)
                })
                .await
            };
            Box::pin(ELSEWHERE.scope((), driven))
        }

        fn thread_time(&self) -> Duration {
            USED.get()
        }
    }

    /// A task that uses the times that it is sent, and says for each whether it ran on threads for busy tasks.
    struct Worker {
        spawner: TaskSpawner,
        times: mpsc::UnboundedSender<Duration>,
        places: mpsc::UnboundedReceiver<bool>,
    }

    impl Worker {
        fn start(threads: impl BusyTaskThreads + 'static) -> Self {
            let (times, mut work) = mpsc::unbounded_channel();
            let (place, places) = mpsc::unbounded_channel();
            let task = async move {
                while let Some(time) = work.recv().await {
                    place.send(ELSEWHERE.try_get().is_ok()).unwrap();
                    USED.set(USED.get() + time);
                }
            };
            let spawner = TaskSpawner::with_busy_tasks_on(Arc::new(threads));
            spawner.execute(task);
            Self { spawner, times, places }
        }

        async fn is_elsewhere(&mut self, time: Duration) -> bool {
            self.times.send(time).unwrap();
            self.places.recv().await.expect("the task goes on")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_a_busy_task_continues_elsewhere_until_it_pauses() {
        let mut worker = Worker::start(MarkedThreads);
        for _ in 0..2 {
            assert!(!worker.is_elsewhere(BUSY / 2).await);
            assert!(!worker.is_elsewhere(BUSY / 2).await);
            for _ in 0..10 {
                assert!(worker.is_elsewhere(BUSY).await);
                sleep(BUSY * WAITING_PART / 2).await;
            }
            sleep(BUSY * WAITING_PART).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_little_work_stays_on_the_threads_of_the_port() {
        let mut worker = Worker::start(MarkedThreads);
        for _ in 0..1_000 {
            assert!(!worker.is_elsewhere(BUSY / 20).await);
            sleep(BUSY / 5).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_a_busy_task_comes_back_when_it_does_little() {
        let mut worker = Worker::start(MarkedThreads);
        assert!(!worker.is_elsewhere(BUSY).await);
        let mut returned = 0;
        for _ in 0..100 {
            if !worker.is_elsewhere(BUSY / 100).await {
                returned += 1;
            }
            sleep(BUSY / 5).await;
        }
        assert!((70..100).contains(&returned), "{returned} of 100");
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_a_task_is_as_busy_when_other_programs_fill_the_processors() {
        let work = async {
            for _ in 0..10 {
                USED.set(USED.get() + BUSY / 5);
                yield_now().await;
            }
        };
        let moving = MovingTask { threads: Arc::new(MarkedThreads), connection: Arc::default() };
        let mut until_busy = Box::pin(moving.until_busy(Box::pin(work)));
        for step in 1..=5 {
            let polled = futures::poll!(&mut until_busy);
            assert_eq!(polled.is_ready(), step == 5, "step {step}");
            // The task could go on all the time.
            sleep(BUSY * WAITING_PART).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_threads_is_no_pause() {
        let mut worker = Worker::start(LateThreads(BUSY * WAITING_PART * 2));
        assert!(!worker.is_elsewhere(BUSY).await);
        for _ in 0..10 {
            assert!(worker.is_elsewhere(BUSY).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_a_connection_that_logs_data_stays_on_the_threads_of_the_port() {
        let mut worker = Worker::start(MarkedThreads);
        worker.spawner.of_connection().enclose(async { CallOnPort::for_data() }).await;
        assert!(!worker.is_elsewhere(BUSY).await);
        assert!(worker.is_elsewhere(BUSY).await, "another connection logs data");
        worker.spawner.clone().enclose(async { CallOnPort::for_data() }).await;
        assert!(worker.is_elsewhere(BUSY).await, "the step in which data is logged");
        for _ in 0..10 {
            assert!(!worker.is_elsewhere(BUSY).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_a_change_keeps_its_connection_on_the_threads_of_the_port_until_it_is_made() {
        let mut worker = Worker::start(MarkedThreads);
        assert!(!worker.is_elsewhere(BUSY).await);
        let calls =
            worker.spawner.clone().enclose(async { [(); 2].map(|()| CallOnPort::for_change()) }).await;
        assert!(worker.is_elsewhere(BUSY).await, "the step in which the change begins");
        let [first, second] = calls;
        drop(first);
        for _ in 0..10 {
            assert!(!worker.is_elsewhere(BUSY).await);
        }
        drop(second);
        assert!(!worker.is_elsewhere(BUSY).await);
        assert!(worker.is_elsewhere(BUSY).await);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_130_a_change_begins_on_the_threads_of_the_port() {
        for is_busy in [false, true] {
            let (place, mut places) = mpsc::unbounded_channel();
            let spawner = TaskSpawner::with_busy_tasks_on(Arc::new(MarkedThreads));
            let connection = spawner.clone();
            spawner.execute(async move {
                if is_busy {
                    USED.set(USED.get() + BUSY);
                    yield_now().await;
                }
                place.send(ELSEWHERE.try_get().is_ok()).unwrap();
                let call = connection.enclose(async { CallOnPort::for_change() }).await;
                call.begin().await;
                place.send(ELSEWHERE.try_get().is_ok()).unwrap();
            });
            assert_eq!(places.recv().await, Some(is_busy));
            assert_eq!(places.recv().await, Some(false));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_task_ends_elsewhere() {
        let mut worker = Worker::start(MarkedThreads);
        assert!(!worker.is_elsewhere(BUSY).await);
        assert!(worker.is_elsewhere(BUSY).await);
        drop(worker.times);
        assert_eq!(worker.places.recv().await, None);
    }
}
