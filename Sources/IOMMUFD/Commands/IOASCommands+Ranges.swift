// SPDX-License-Identifier: Apache-2.0

// IOMMU_IOAS_IOVA_RANGES and IOMMU_IOAS_ALLOW_IOVAS, the commands with an array of ranges.

internal import CUAPI
internal import SystemPackage
internal import UAPI

extension IOASCommands {
  /// Stores as many ranges as the array has elements, then the struct, and then fails with EMSGSIZE
  /// when the array is too short. iommufd: iommufd_ioas_iova_ranges()
  static func iovaRanges(_ command: inout UserCommand<iommu_ioas_iova_ranges>) throws(Errno) {
    guard command.arguments.__reserved == 0 else { throw .notSupported }
    let context = command.context
    let id = ObjectID(command.arguments.ioas_id)
    let (ranges, alignment) = try context.lock.withLock { () throws(Errno) in
      let pageTable = try context.ioas(id).pageTable
      return (pageTable.usableRanges, pageTable.alignment)
    }
    let capacity = Int(command.arguments.num_iovas)
    try command.client.storeRanges(ranges.prefix(capacity), at: command.arguments.allowed_iovas)
    command.arguments.num_iovas = UInt32(clamping: ranges.count)
    command.arguments.out_iova_alignment = alignment
    try command.respond()
    guard ranges.count <= capacity else { throw .messageTooLong }
  }

  /// Reads the array without the lock; the command is a user of the IOAS meanwhile.
  /// iommufd: iommufd_ioas_allow_iovas()
  static func allowIOVAs(_ command: inout UserCommand<iommu_ioas_allow_iovas>) throws(Errno) {
    let arguments = command.arguments
    guard arguments.__reserved == 0 else { throw .notSupported }
    let (context, client) = (command.context, command.client)
    let ioas = try context.lock.withLock { () throws(Errno) in
      let ioas = try context.ioas(ObjectID(arguments.ioas_id))
      ioas.addUser()
      return ioas
    }
    defer { context.lock.withLock { ioas.dropUser() } }
    let ranges = try AllowedRanges(
      count: Int(arguments.num_iovas), at: arguments.allowed_iovas, in: client)
    try context.lock.withLock { () throws(Errno) in
      try ioas.pageTable.setAllowed(ranges.sorted)
    }
  }
}

/// The ranges of IOMMU_IOAS_ALLOW_IOVAS. The first element that is invalid or cannot be read
/// decides the errno.
struct AllowedRanges {
  /// The kernel is limited by its memory only.
  static let capacity = 16384
  /// The number of elements that are read at a time.
  private static let chunk = 256

  private let ranges = IntervalMap<Void>()
  private var count = 0

  /// Disjoint, in ascending order.
  var sorted: [ClosedRange<UInt64>] {
    var sorted: [ClosedRange<UInt64>] = []
    ranges.forEach { sorted.append($0.first...$0.last) }
    return sorted
  }

  /// iommufd: iommufd_ioas_load_iovas()
  init(count: Int, at address: UInt64, in client: any Client) throws(Errno) {
    var index = 0
    while index < count {
      let elements = min(Self.chunk, count - index)
      if let ranges = client.loadRanges(index..<index + elements, of: address) {
        for range in ranges { try insert(range) }
      } else {
        // An element cannot be read. The elements before it are checked first.
        for element in index..<index + elements {
          guard let range = client.loadRanges(element..<element + 1, of: address)?.first else {
            throw .badAddress
          }
          try insert(range)
        }
      }
      index += elements
    }
  }

  private mutating func insert(_ range: iommu_iova_range) throws(Errno) {
    guard range.start < range.last,
      ranges.firstInterval(overlapping: range.start, through: range.last) == nil
    else { throw .invalidArgument }
    guard count < Self.capacity else { throw .noMemory }
    count += 1
    ranges.insert(Interval(first: range.start, last: range.last, value: ()))
  }
}

extension Client {
  /// Returns elements of an array of `struct iommu_iova_range`; `nil` when one cannot be read.
  fileprivate func loadRanges(_ indexes: Range<Int>, of array: UInt64) -> [iommu_iova_range]? {
    let stride = MemoryLayout<iommu_iova_range>.stride
    let (address, overflow) = array.addingReportingOverflow(UInt64(indexes.lowerBound * stride))
    guard !overflow else { return nil }
    return try? loadArray(indexes.count, at: address)
  }

  /// Stores an array of `struct iommu_iova_range`, up to the first element that cannot be stored.
  fileprivate func storeRanges(
    _ ranges: some Collection<ClosedRange<UInt64>>, at address: UInt64
  ) throws(Errno) {
    if ranges.isEmpty { return }
    try storeArray(
      ranges.map { iommu_iova_range(start: $0.lowerBound, last: $0.upperBound) }, at: address)
  }
}
