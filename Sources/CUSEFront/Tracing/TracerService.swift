// The other side of `Tracer`: what runs in the process that holds threads.

internal import CLinux
internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage

// A free function: it is called from C, in a new process.
func holdThreads(_ control: Int32) {
  CLinux_set_thread_name("iommufd-holder")
  let service = TracerService()
  while true {
    do throws(Errno) {
      service.serve(try UnixSocket.receiveDescriptor(from: control))
    } catch {
      break  // the server is gone
    }
  }
  service.awaitEnd()
}

private final class TracerService: Sendable {
  private let channels = Atomic(0)
  private let oneHasEnded = ThreadSemaphore()

  func serve(_ socket: OwnedDescriptor) {
    channels.add(1, ordering: .relaxed)
    let started = startThread(named: "hold") { [self] in
      TraceeChannel(socket).run()
      ended()
    }
    if !started { ended() }
  }

  private func ended() {
    channels.subtract(1, ordering: .relaxed)
    oneHasEnded.signal()
  }

  /// Every channel ends when the server does.
  func awaitEnd() {
    while channels.load(ordering: .relaxed) > 0 { oneHasEnded.wait() }
  }
}

/// One channel, on one thread: ptrace(2) belongs to the thread that seized.
private final class TraceeChannel {
  private let socket: OwnedDescriptor

  init(_ socket: OwnedDescriptor) {
    self.socket = socket
  }

  #if arch(x86_64)
    private var thread: TracedThread?
    /// Descriptors that the server had made, and has not finished with.
    private var made: Set<Int32> = []

    func run() {
      while let message = OrderMessage(from: socket) {
        var answer: Int32
        do throws(Errno) {
          answer = try obey(message)
        } catch {
          answer = -error.rawValue
        }
        withUnsafeBytes(of: &answer) { bytes in
          _ = send(socket.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        }
      }
      // The server was killed: as if the thread had never been held.
      for number in made { thread?.close(number) }
      thread?.finish(returning: -Errno.connectionAbort.rawValue)
    }

    private func obey(_ message: OrderMessage) throws(Errno) -> Int32 {
      if message.order == .seize {
        thread = try TracedThread(seizing: HostTask(id: message.value))
        return 0
      }
      guard let thread else { throw .noSuchProcess }
      switch message.order {
      case .open:
        return remember(try thread.open(String(decoding: message.bytes, as: UTF8.self)))
      case .connect:
        return remember(try thread.connect(to: message.bytes))
      case .receive:
        made.remove(message.value)
        return remember(try thread.receive(from: message.value))
      case .close:
        made.remove(message.value)
        thread.close(message.value)
        return 0
      case .finish, .seize:
        thread.finish(returning: message.value)
        made = []
        self.thread = nil
        return 0
      }
    }

    private func remember(_ number: Int32) -> Int32 {
      made.insert(number)
      return number
    }
  #else
    /// Nothing is known of this processor's system calls.
    func run() {
      var answer = -Errno.notSupported.rawValue
      while OrderMessage(from: socket) != nil {
        withUnsafeBytes(of: &answer) { bytes in
          _ = send(socket.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        }
      }
    }
  #endif
}
