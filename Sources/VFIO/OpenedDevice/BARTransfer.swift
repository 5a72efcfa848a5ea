// SPDX-License-Identifier: Apache-2.0

internal import PCI
internal import SystemPackage

/// A read or write of a BAR, split into register accesses (vfio_pci_core_do_io_rw()).
struct BARTransfer {
  let bar: Int
  let start: UInt64
  let end: UInt64
  /// The MSI-X table, which belongs to the host: reads return ones and writes are dropped.
  private let excluded: Range<UInt64>

  enum Step {
    case register(width: Int)
    case excluded(count: Int)
  }

  /// Makes the transfer of `count` bytes from `start` on. It ends at the end of the BAR.
  /// - Throws: `.invalidArgument` when the device does not have the BAR or `start` is not inside
  ///   it.
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
