// A descriptor that events are read from: the fault log, and the kernel's fault and event queues.
//
// Reading never blocks, whatever the flags of the descriptor; an empty queue reads as 0 bytes, and poll
// tells when it is not empty. A read takes as many units as fit; what keeps the first of them from
// being stored is the answer, what keeps a later one from it is not told. (iommufd: eventq.c)

package import SystemPackage
package import UAPI

package final class QueueFile<Contents: QueueContents>: OpenFile {
  package struct Rules: Sendable {
    /// A read whose size is no multiple of this is ESPIPE.
    package var recordSize = 1
    /// A read shorter than this is EINVAL.
    package var minimumRead = 0
    /// What can be written comes in records of this size, else ESPIPE; nil: nothing can.
    package var responseSize: Int?
  }

  package let queue: EventQueue<Contents>
  private let rules: Rules
  private let onRelease: @Sendable () -> Void

  package init(
    _ queue: EventQueue<Contents>, _ rules: Rules, onRelease: @escaping @Sendable () -> Void = {}
  ) {
    self.queue = queue
    self.rules = rules
    self.onRelease = onRelease
  }

  package var hasRead: Bool { true }
  package var hasWrite: Bool { rules.responseSize != nil }

  /// iommufd: iommufd_fault_fops_read(), iommufd_veventq_fops_read()
  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % rules.recordSize == 0 else { throw .illegalSeek }
    guard destination.count >= rules.minimumRead else { throw .invalidArgument }
    var done = 0
    while let (unit, bytes) = queue.withContents({ $0.takeFirstWithBytes() }) {
      guard bytes.count <= destination.count - done else {
        queue.withContents { $0.putBack(unit) }
        if done == 0 { throw .invalidArgument }
        break
      }
      do throws(Errno) {
        try destination.store(bytes, at: done)
      } catch {
        queue.withContents { $0.putBack(unit) }
        if done == 0 { throw error }
        break
      }
      queue.withContents { $0.confirm(unit) }
      done += bytes.count
    }
    return done
  }

  /// iommufd: iommufd_fault_fops_write()
  package func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let size = rules.responseSize else { throw .invalidArgument }
    guard source.count % size == 0 else { throw .illegalSeek }
    var done = 0
    while done < source.count {
      do throws(Errno) {
        let record = try source.load(size, at: done)
        let consequence = try queue.withContents { contents throws(Errno) in
          try contents.accept(record)
        }
        consequence?()
      } catch {
        if done == 0 { throw error }
        break
      }
      done += size
    }
    return done
  }

  /// iommufd: iommufd_eventq_fops_poll()
  package func readiness() -> Readiness {
    var readiness: Readiness = rules.responseSize == nil ? [] : .writable
    if queue.withContents({ !$0.isEmpty }) { readiness.insert(.readable) }
    return readiness
  }

  package func setReadinessObserver(_ wake: (@Sendable () -> Void)?) {
    queue.setObserver(wake)
  }

  package func release() {
    onRelease()
  }
}

extension QueueContents {
  fileprivate mutating func takeFirstWithBytes() -> (Unit, [UInt8])? {
    takeFirst().map { ($0, bytes(of: $0)) }
  }
}

extension UserBuffer {
  fileprivate func store(_ bytes: [UInt8], at offset: Int) throws(Errno) {
    try memory.storeArray(bytes, at: try address(at: offset))
  }

  fileprivate func load(_ count: Int, at offset: Int) throws(Errno) -> [UInt8] {
    try memory.loadArray(count, at: try address(at: offset))
  }

  private func address(at offset: Int) throws(Errno) -> UInt64 {
    let (address, overflow) = address.addingReportingOverflow(UInt64(offset))
    guard !overflow else { throw .badAddress }
    return address
  }
}
