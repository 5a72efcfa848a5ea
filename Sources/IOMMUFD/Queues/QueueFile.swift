// A descriptor that events are read from: the fault log, and the kernel's fault and event queues.
//
// It holds units, each of which is read whole or not at all: a record, or a group of them. Reading never
// blocks, whatever the flags of the descriptor; an empty queue reads as 0 bytes, and poll tells when
// it is not empty. The queue is bounded, and the side that fills it never waits: what does not fit is
// the producer's to count as lost. (iommufd: eventq.c)

internal import DequeModule
internal import Synchronization
package import SystemPackage
package import UAPI

package final class QueueFile: OpenFile {
  package struct Rules: Sendable {
    /// A read whose size is no multiple of this is ESPIPE.
    package var recordSize = 1
    /// A read shorter than this is EINVAL.
    package var minimumRead = 0
    /// Units the queue holds.
    package var capacity: Int
  }

  private struct State {
    var units: Deque<[UInt8]> = []
    var observer: (@Sendable () -> Void)?
  }

  private let rules: Rules
  private let state = Mutex(State())
  private let onRelease: @Sendable () -> Void

  package init(_ rules: Rules, onRelease: @escaping @Sendable () -> Void = {}) {
    self.rules = rules
    self.onRelease = onRelease
  }

  // MARK: Producer

  /// The caller calls ``wake()`` afterwards, without locks that the front end might wait for.
  /// - Returns: false when the queue is full; the unit is then not in it.
  package func append(_ unit: [UInt8]) -> Bool {
    state.withLock { state in
      guard state.units.count < rules.capacity else { return false }
      state.units.append(unit)
      return true
    }
  }

  /// Tells the front end that there is something to read.
  package func wake() {
    state.withLock { $0.observer }?()
  }

  // MARK: OpenFile

  /// iommufd: iommufd_fault_fops_read(), iommufd_veventq_fops_read()
  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % rules.recordSize == 0 else { throw .illegalSeek }
    guard destination.count >= rules.minimumRead else { throw .invalidArgument }
    var done = 0
    while let unit = state.withLock({ $0.units.popFirst() }) {
      guard unit.count <= destination.count - done else {
        restore(unit)
        if done == 0 { throw .invalidArgument }
        break
      }
      do throws(Errno) {
        try destination.store(unit, at: done)
      } catch {
        restore(unit)
        if done == 0 { throw error }
        break
      }
      done += unit.count
    }
    return done
  }

  /// Puts back the unit that could not be delivered, ahead of all others.
  private func restore(_ unit: [UInt8]) {
    state.withLock { $0.units.prepend(unit) }
  }

  package func readiness() -> Readiness {
    state.withLock { $0.units.isEmpty ? [] : .readable }
  }

  package func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {
    state.withLock { $0.observer = wake }
  }

  package func release() {
    onRelease()
  }
}

extension UserBuffer {
  fileprivate func store(_ bytes: [UInt8], at offset: Int) throws(Errno) {
    let (address, overflow) = address.addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    var failure: Errno?
    bytes.withUnsafeBytes { bytes in
      do throws(Errno) { try memory.copyOut(bytes, to: address) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
