// SPDX-License-Identifier: Apache-2.0

// The descriptor of a queue: a fault log, a fault queue or a virtual event queue
// (iommufd: eventq.c).
//
// read(2) never blocks, whatever the flags of the descriptor. An empty queue reads as 0 bytes;
// poll(2) reports when the queue is not empty. A read stores as many whole units as fit. When the
// first unit cannot be stored, the read fails with that error; when a later one cannot, the read is
// short.

package import SystemPackage
package import UAPI

package final class QueueFile<Contents: QueueContents>: OpenFile {
  package struct Rules: Sendable {
    /// The size of a read must be a multiple of this, else ESPIPE.
    package var recordSize = 1
    /// A read of fewer bytes is EINVAL.
    package var minimumRead = 0
    /// The size of a write must be a multiple of this, else ESPIPE. `nil` when the descriptor
    /// cannot be written to.
    package var responseSize: Int?
    /// The name of the anonymous inode (anon_inode_getfile()).
    package var inodeName = "iommufd"
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

  package var hasPoll: Bool { true }
  package var linkText: String { "anon_inode:[\(rules.inodeName)]" }
  package var hasRead: Bool { true }
  package var hasWrite: Bool { rules.responseSize != nil }

  /// iommufd: iommufd_fault_fops_read(), iommufd_veventq_fops_read()
  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard destination.count % rules.recordSize == 0 else { throw .illegalSeek }
    guard destination.count >= rules.minimumRead else { throw .invalidArgument }
    var done = 0
    while let (unit, bytes) = queue.withContents({ $0.dequeueWithBytes() }) {
      guard bytes.count <= destination.count - done else {
        queue.withContents { $0.requeue(unit) }
        if done == 0 { throw .invalidArgument }
        break
      }
      do throws(Errno) {
        try destination.store(bytes, at: done)
      } catch {
        queue.withContents { $0.requeue(unit) }
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
  fileprivate mutating func dequeueWithBytes() -> (Unit, [UInt8])? {
    dequeue().map { ($0, bytes(of: $0)) }
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
