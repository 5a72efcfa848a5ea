// SPDX-License-Identifier: Apache-2.0

// What runs in the tracer process, whose server side is `Tracer`.

internal import CLinux
internal import FrontEnd
internal import Host
internal import Synchronization
internal import SystemPackage

/// The main function of the tracer process: serves connections that arrive over `control` until the
/// server has ended. A free function, because C code calls it in a new process.
func runTracer(_ control: Int32) {
  CLinux_set_thread_name("iommufd-tracer")
  let service = TracerService()
  while true {
    do throws(Errno) {
      service.serve(try UnixSocket.receiveDescriptor(from: control))
    } catch {
      break  // the server has ended
    }
  }
  service.awaitEnd()
}

/// The connections of the tracer process, each with a thread.
private final class TracerService: Sendable {
  private let connections = Atomic(0)
  private let connectionEnded = ThreadSemaphore()

  func serve(_ socket: OwnedDescriptor) {
    connections.add(1, ordering: .relaxed)
    let started = startThread(named: "tracer") { [self] in
      TracerThread(socket).run()
      recordEnd()
    }
    if !started { recordEnd() }
  }

  private func recordEnd() {
    connections.subtract(1, ordering: .relaxed)
    connectionEnded.signal()
  }

  /// Waits until every connection has ended. They all end when the server does.
  func awaitEnd() {
    while connections.load(ordering: .relaxed) > 0 { connectionEnded.wait() }
  }
}
