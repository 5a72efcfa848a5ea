// SPDX-License-Identifier: Apache-2.0

internal import Host
internal import SystemPackage

/// Serves one connection of the tracer process, on one thread: ptrace(2) accepts requests only from
/// the thread that has seized the tracee.
final class TracerThread {
  private let socket: OwnedDescriptor

  init(_ socket: OwnedDescriptor) {
    self.socket = socket
  }

  #if arch(x86_64)
    private var thread: SeizedThread?
    /// Descriptors that were made in the thread and not closed, until it is resumed.
    private var descriptors: Set<Int32> = []

    /// Serves requests until the server closes the connection.
    func run() {
      while let request = TracerRequest(from: socket) {
        let reply: Int32
        do throws(Errno) {
          reply = try perform(request)
        } catch {
          reply = -error.rawValue
        }
        TracerReply.send(reply, over: socket)
      }
      // The server was killed. The thread must continue as if it had never been stopped.
      for number in descriptors { thread?.close(number) }
      thread?.resume(returning: -Errno.connectionAbort.rawValue)
    }

    private func perform(_ request: TracerRequest) throws(Errno) -> Int32 {
      if request.kind == .seize {
        thread = try SeizedThread(seizing: HostTask(id: request.value))
        return 0
      }
      guard let thread else { throw .noSuchProcess }
      switch request.kind {
      case .open:
        return record(try thread.open(String(decoding: request.bytes, as: UTF8.self)))
      case .connect:
        return record(try thread.connect(to: request.bytes))
      case .receive:
        descriptors.remove(request.value)
        return record(try thread.receiveDescriptor(from: request.value))
      case .close:
        descriptors.remove(request.value)
        thread.close(request.value)
        return 0
      case .resume, .seize:
        thread.resume(returning: request.value)
        descriptors = []
        self.thread = nil
        return 0
      }
    }

    private func record(_ number: Int32) -> Int32 {
      descriptors.insert(number)
      return number
    }
  #else
    /// Refuses every request: the system calls of this processor are not known here.
    func run() {
      while TracerRequest(from: socket) != nil {
        TracerReply.send(-Errno.notSupported.rawValue, over: socket)
      }
    }
  #endif
}
