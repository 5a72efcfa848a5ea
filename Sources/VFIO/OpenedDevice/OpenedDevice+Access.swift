// Accesses to configuration space and to BARs. An access of any length is split into the register
// accesses that the region takes. An error ends the access, and the caller learns only the error,
// also when earlier registers have been accessed.

internal import PCI
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension OpenedDevice {
  /// Reads from region `region`, from `position` on.
  /// - Returns: Bytes read.
  func read(
    _ region: UInt64, into destination: UserBuffer, at position: UInt64
  ) throws(Errno) -> Int {
    switch region {
    case RegionIndex.config:
      wake()
      return try readConfig(into: destination, at: position)
    case RegionIndex.bars:
      wake()
      return try readBAR(Int(region), into: destination, at: position)
    default:
      // The device has no expansion ROM, no VGA ranges and no device-specific regions.
      throw .invalidArgument
    }
  }

  /// Writes to region `region`, from `position` on.
  /// - Returns: Bytes written.
  func write(
    _ region: UInt64, from source: UserBuffer, at position: UInt64
  ) throws(Errno) -> Int {
    switch region {
    case RegionIndex.config:
      wake()
      return try writeConfig(from: source, at: position)
    case RegionIndex.bars:
      wake()
      return try writeBAR(Int(region), from: source, at: position)
    default:
      throw .invalidArgument
    }
  }

  // MARK: Configuration space, vfio_pci_config_rw()

  private func readConfig(into destination: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let end = try configEnd(start, destination.count)
    var output = UserBufferWriter(destination)
    var position = Int(start)
    while position < end {
      let (value, width) = config.withLock { config in
        let width = config.accessWidth(at: position, of: end - position)
        return (config.read(at: position, count: width), width)
      }
      try output.append(UInt64(value), width)
      position += width
    }
    try output.flush()
    return destination.count
  }

  private func writeConfig(from source: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let end = try configEnd(start, source.count)
    var input = UserBufferReader(source)
    var position = Int(start)
    while position < end {
      let (width, isIgnored) = config.withLock { config in
        (
          config.accessWidth(at: position, of: end - position),
          config.ignoresWrites(at: position)
        )
      }
      if !isIgnored {
        let value = try input.load(width, at: position - Int(start))
        writeConfig(UInt32(truncatingIfNeeded: value), at: position, count: width)
      }
      position += width
    }
    return source.count
  }

  /// - Throws: `.badAddress` for an access that is not completely inside configuration space, as
  ///   the kernel answers.
  private func configEnd(_ start: UInt64, _ count: Int) throws(Errno) -> Int {
    let size = UInt64(function.configSize)
    guard start < size, UInt64(count) <= size - start else { throw .badAddress }
    return Int(start) + count
  }

  private func writeConfig(_ value: UInt32, at position: Int, count: Int) {
    let msiIsEnabled = interrupts.msiIsEnabled
    let msiShift = interrupts.msiShift
    let effects = config.withLock {
      $0.write(
        value, at: position, count: count, msiIsEnabled: msiIsEnabled, msiShift: msiShift)
    }
    for effect in effects {
      switch effect {
      case .intxDisable(let isDisabled): interrupts.setINTxDisabled(isDisabled)
      case .powerState(let state): function.setPowerState(state)
      case .functionReset: reset()
      }
    }
  }

  // MARK: BARs, vfio_pci_bar_rw()

  private func readBAR(
    _ index: Int, into destination: UserBuffer, at start: UInt64
  ) throws(Errno) -> Int {
    let transfer = try BARTransfer(function.description, index, start, destination.count)
    var output = UserBufferWriter(destination)
    var position = transfer.start
    while position < transfer.end {
      switch transfer.step(at: position) {
      case .register(let width):
        try requireMemoryEnabled()
        try output.append(function.read(transfer.access(position, width)), width)
        position += UInt64(width)
      case .excluded(let count):
        for _ in 0..<count { try output.append(0xff, 1) }
        position += UInt64(count)
      }
    }
    try output.flush()
    return transfer.count
  }

  private func writeBAR(
    _ index: Int, from source: UserBuffer, at start: UInt64
  ) throws(Errno) -> Int {
    let transfer = try BARTransfer(function.description, index, start, source.count)
    var input = UserBufferReader(source)
    var position = transfer.start
    while position < transfer.end {
      switch transfer.step(at: position) {
      case .register(let width):
        let value = try input.load(width, at: Int(position - transfer.start))
        try requireMemoryEnabled()
        function.write(transfer.access(position, width), value)
        position += UInt64(width)
      case .excluded(let count):
        position += UInt64(count)
      }
    }
    return transfer.count
  }

  /// Checks Memory Space Enable before every register, because a write of a register can clear the
  /// bit: vfio_pci_core_iowrite8() and its siblings.
  private func requireMemoryEnabled() throws(Errno) {
    guard config.withLock({ $0.isMemoryEnabled }) else { throw .ioError }
  }
}

/// A read or write of a BAR, split into register accesses (vfio_pci_core_do_io_rw()).
private struct BARTransfer {
  let bar: Int
  let start: UInt64
  let end: UInt64
  /// The MSI-X table, which belongs to the host: reads return ones and writes are dropped.
  private let excluded: Range<UInt64>

  enum Step {
    case register(width: Int)
    case excluded(count: Int)
  }

  /// Ends at the end of the BAR.
  /// - Throws: `.invalidArgument` when the device does not have the BAR or `start` is behind its
  ///   end.
  init(_ description: FunctionDescription, _ bar: Int, _ start: UInt64, _ count: Int)
    throws(Errno)
  {
    guard let size = description.bar(bar)?.size, start < size else {
      throw .invalidArgument
    }
    self.bar = bar
    self.start = start
    end = start + min(UInt64(count), size - start)
    if let table = description.msixTable, table.bar == bar {
      excluded = table.offset..<table.offset + table.size
    } else {
      excluded = 0..<0
    }
  }

  var count: Int { Int(end - start) }

  /// Returns the next step: the widest naturally aligned register access, or the excluded bytes.
  func step(at position: UInt64) -> Step {
    if excluded.contains(position) {
      return .excluded(count: Int(min(end, excluded.upperBound) - position))
    }
    let limit = position < excluded.lowerBound ? min(end, excluded.lowerBound) : end
    for width in [8, 4, 2] where limit - position >= UInt64(width) {
      if position % UInt64(width) == 0 { return .register(width: width) }
    }
    return .register(width: 1)
  }

  func access(_ position: UInt64, _ width: Int) -> RegisterAccess {
    RegisterAccess(bar: bar, offset: position, width: width)
  }
}
