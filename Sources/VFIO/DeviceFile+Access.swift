// read(2) and write(2): the file offset selects region and register (vfio_pci_rw()). An access of any
// length is chopped into what the region takes; an error ends it, and nothing of it is reported as
// done.

internal import PCI
internal import Synchronization
package import SystemPackage
package import UAPI

extension DeviceFile {
  package var hasRead: Bool { true }
  package var hasWrite: Bool { true }

  package func read(into destination: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let session else { throw .invalidArgument }
    guard destination.count > 0 else { return 0 }
    let position = RegionOffset.position(in: offset)
    switch RegionOffset.index(of: offset) {
    case Region.config:
      session.opened.wake()
      return try session.opened.readConfig(into: destination, at: position)
    case Region.bars:
      session.opened.wake()
      return try session.opened.readBAR(
        Int(RegionOffset.index(of: offset)), into: destination, at: position)
    default:
      // No expansion ROM, no VGA ranges, no regions of the device's own.
      throw .invalidArgument
    }
  }

  package func write(from source: UserBuffer, at offset: UInt64) throws(Errno) -> Int {
    guard let session else { throw .invalidArgument }
    guard source.count > 0 else { return 0 }
    let position = RegionOffset.position(in: offset)
    switch RegionOffset.index(of: offset) {
    case Region.config:
      session.opened.wake()
      return try session.opened.writeConfig(from: source, at: position)
    case Region.bars:
      session.opened.wake()
      return try session.opened.writeBAR(
        Int(RegionOffset.index(of: offset)), from: source, at: position)
    default:
      throw .invalidArgument
    }
  }
}

extension OpenedDevice {
  // MARK: Configuration space, vfio_pci_config_rw()

  func readConfig(into destination: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let end = try configEnd(start, destination.count)
    var output = OutgoingBytes(destination)
    var position = Int(start)
    while position < end {
      let (value, count) = config.withLock { config in
        let count = config.chunk(at: position, of: end - position)
        return (config.read(at: position, count: count), count)
      }
      try output.append(UInt64(value), count)
      position += count
    }
    try output.flush()
    return destination.count
  }

  func writeConfig(from source: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let end = try configEnd(start, source.count)
    var input = IncomingBytes(source)
    var position = Int(start)
    while position < end {
      let (count, ignored) = config.withLock { config in
        (
          config.chunk(at: position, of: end - position), config.ignoresWrites(at: position)
        )
      }
      if !ignored {
        let value = try input.load(count, at: position - Int(start))
        writeConfig(UInt32(truncatingIfNeeded: value), at: position, count: count)
      }
      position += count
    }
    return source.count
  }

  /// An access that does not fit is an error as a whole, EFAULT as the kernel has it.
  private func configEnd(_ start: UInt64, _ count: Int) throws(Errno) -> Int {
    let size = UInt64(function.configSize)
    guard start < size, UInt64(count) <= size - start else { throw .badAddress }
    return Int(start) + count
  }

  private func writeConfig(_ value: UInt32, at position: Int, count: Int) {
    let msiIsEnabled = interrupts.msiIsEnabled
    let msiLimit = interrupts.msiLimit
    let effects = config.withLock {
      $0.write(
        value, at: position, count: count, msiIsEnabled: msiIsEnabled, msiLimit: msiLimit)
    }
    for effect in effects {
      switch effect {
      case .pinDisable(let disabled): interrupts.setPinDisabled(disabled)
      case .powerState(let state): function.setPowerState(state)
      case .functionReset: reset()
      }
    }
  }

  // MARK: Base address ranges, vfio_pci_bar_rw()

  func readBAR(
    _ index: Int, into destination: UserBuffer, at start: UInt64
  ) throws(Errno) -> Int {
    let range = try RegionAccess(function.description, index, start, destination.count)
    var output = OutgoingBytes(destination)
    var position = range.start
    while position < range.end {
      switch range.chunk(at: position) {
      case .register(let width):
        try requireMemory()
        try output.append(function.read(range.access(position, width)), width)
        position += UInt64(width)
      case .excluded(let count):
        for _ in 0..<count { try output.append(0xff, 1) }
        position += UInt64(count)
      }
    }
    try output.flush()
    return range.count
  }

  func writeBAR(_ index: Int, from source: UserBuffer, at start: UInt64) throws(Errno) -> Int {
    let range = try RegionAccess(function.description, index, start, source.count)
    var input = IncomingBytes(source)
    var position = range.start
    while position < range.end {
      switch range.chunk(at: position) {
      case .register(let width):
        let value = try input.load(width, at: Int(position - range.start))
        try requireMemory()
        function.write(range.access(position, width), value)
        position += UInt64(width)
      case .excluded(let count):
        position += UInt64(count)
      }
    }
    return range.count
  }

  /// vfio_pci_core_iowrite…(): tested before every register, since a write may disable memory.
  private func requireMemory() throws(Errno) {
    guard config.withLock({ $0.isMemoryEnabled }) else { throw .ioError }
  }
}

/// An access to the range of a base address, and how it is chopped (vfio_pci_core_do_io_rw()).
struct RegionAccess {
  let index: Int
  let start: UInt64
  let end: UInt64
  /// The MSI-X table, which is the host's: reads as ones, drops writes.
  private let excluded: Range<UInt64>

  enum Chunk {
    case register(width: Int)
    case excluded(count: Int)
  }

  init(_ description: FunctionDescription, _ index: Int, _ start: UInt64, _ count: Int)
    throws(Errno)
  {
    guard let size = description.bar(index)?.size, start < size else {
      throw .invalidArgument
    }
    self.index = index
    self.start = start
    end = start + min(UInt64(count), size - start)
    if let table = description.msixTable, table.bar == index {
      excluded = table.offset..<table.offset + table.size
    } else {
      excluded = 0..<0
    }
  }

  var count: Int { Int(end - start) }

  func chunk(at position: UInt64) -> Chunk {
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
    RegisterAccess(bar: index, offset: position, width: width)
  }
}
