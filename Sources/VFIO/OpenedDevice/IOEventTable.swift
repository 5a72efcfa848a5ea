// SPDX-License-Identifier: Apache-2.0

// The ioeventfds of an opened device: eventfds whose signal writes a fixed value to a register, so
// that a client rings a doorbell without a write(2) of the device file (vfio_pci_ioeventfd()).

internal import Host
internal import PCI
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// The register write that a signal causes.
struct IOEvent: Hashable, Sendable {
  let bar: Int
  let offset: UInt64
  /// Bytes: 1, 2, 4 or 8.
  let width: Int
  let value: UInt64

  /// - Parameter fileOffset: The register's offset in the device file.
  /// - Throws: `.invalidArgument` when the register is not inside a BAR, or overlaps the MSI-X
  ///   table.
  init(
    _ fileOffset: UInt64, width: Int, value: UInt64, of description: FunctionDescription
  ) throws(Errno) {
    let region = RegionOffset.index(of: fileOffset)
    guard RegionIndex.bars.contains(region) else { throw .invalidArgument }
    bar = Int(region)
    offset = RegionOffset.position(in: fileOffset)
    self.width = width
    self.value = value
    let end = offset + UInt64(width)
    guard end <= description.bar(bar)?.size ?? 0 else { throw .invalidArgument }
    // The client must not write the MSI-X table, which belongs to the host.
    if let table = description.msixTable, table.bar == bar,
      end > table.offset, offset < table.offset + table.size
    {
      throw .invalidArgument
    }
  }
}

/// The ioeventfds of an opened device, by the register write that each causes.
final class IOEventTable: Sendable {
  private let watcher: EventWatcher
  private let watches = Mutex<[IOEvent: EventWatch]>([:])

  /// VFIO_PCI_IOEVENTFD_MAX
  private static let limit = 1000

  init(_ watcher: EventWatcher) {
    self.watcher = watcher
  }

  /// - Throws: `.operationNotSupportedByDevice` (ENODEV) when there is no such ioeventfd.
  func remove(_ event: IOEvent) throws(Errno) {
    guard let watch = watches.withLock({ $0.removeValue(forKey: event) }) else {
      throw .operationNotSupportedByDevice
    }
    watch.cancel()
  }

  func removeAll() {
    let all = watches.withLock { watches in
      defer { watches = [:] }
      return Array(watches.values)
    }
    for watch in all { watch.cancel() }
  }

  /// Calls `write` whenever the client's eventfd `descriptor` is signalled.
  /// - Throws: `.fileExists` when the same register write has an eventfd already, `.noSpace` when
  ///   there are 1000 ioeventfds, `.invalidArgument` when `descriptor` is no eventfd.
  func add(
    _ event: IOEvent, _ descriptor: Int32, client: any Client,
    write: @escaping @Sendable () -> Void
  ) throws(Errno) {
    try watches.withLock { watches throws(Errno) in
      guard watches[event] == nil else { throw .fileExists }
      guard watches.count < Self.limit else { throw .noSpace }
      let descriptor = try EventDescriptor(client.duplicateDescriptor(descriptor))
      watches[event] = try watcher.watch(descriptor, write)
    }
  }
}
