// The two commands with an array beside the struct.

internal import CUAPI
internal import SystemPackage
internal import UAPI

extension IOASCommands {
  /// iommufd_ioas_iova_ranges(). The array is filled as far as it goes, then the struct is written,
  /// then the caller is told that the array was too short.
  static func rangesOfIOVA(_ command: inout UserCommand<iommu_ioas_iova_ranges>) throws(Errno) {
    guard command.arguments.__reserved == 0 else { throw .notSupported }
    let context = command.context
    let id = ObjectID(command.arguments.ioas_id)
    let (ranges, alignment) = try context.lock.withLock { () throws(Errno) in
      let pageTable = try context.ioas(id).pageTable
      return (pageTable.usableRanges, pageTable.alignment)
    }
    let room = Int(command.arguments.num_iovas)
    try command.client.storeRanges(ranges.prefix(room), at: command.arguments.allowed_iovas)
    command.arguments.num_iovas = UInt32(clamping: ranges.count)
    command.arguments.out_iova_alignment = alignment
    try command.respond()
    guard ranges.count <= room else { throw .messageTooLong }
  }

  /// iommufd_ioas_allow_iovas(). The array is read while the IOAS is in use, not locked.
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

/// The list of ALLOW_IOVAS, read element by element, so that the first bad one decides the errno.
struct AllowedRanges {
  /// The kernel's bound is its memory.
  static let capacity = 65536
  private static let chunk = 256

  /// Disjoint, in ascending order.
  private(set) var sorted: [ClosedRange<UInt64>] = []

  /// iommufd: iommufd_ioas_load_iovas()
  init(count: Int, at address: UInt64, in client: any Client) throws(Errno) {
    let stride = MemoryLayout<iommu_iova_range>.stride
    for index in 0..<count {
      let (element, overflow) = address.addingReportingOverflow(UInt64(index * stride))
      guard !overflow else { throw .badAddress }
      let range = try client.load(iommu_iova_range.self, at: element)
      guard range.start < range.last else { throw .invalidArgument }
      try insert(range.start...range.last)
    }
  }

  private mutating func insert(_ range: ClosedRange<UInt64>) throws(Errno) {
    var (low, high) = (0, sorted.count)
    while low < high {
      let middle = (low + high) / 2
      if sorted[middle].upperBound < range.lowerBound { low = middle + 1 } else { high = middle }
    }
    if low < sorted.count, sorted[low].overlaps(range) { throw .invalidArgument }
    guard sorted.count < Self.capacity else { throw .noMemory }
    sorted.insert(range, at: low)
  }
}

extension Client {
  /// Stores an array of `struct iommu_iova_range`, up to the first element that cannot be stored.
  fileprivate func storeRanges(
    _ ranges: some Collection<ClosedRange<UInt64>>, at address: UInt64
  ) throws(Errno) {
    if ranges.isEmpty { return }
    let elements = ranges.map { iommu_iova_range(start: $0.lowerBound, last: $0.upperBound) }
    var failure: Errno?
    elements.withUnsafeBytes { bytes in
      do throws(Errno) { try copyOut(bytes, to: address) } catch { failure = error }
    }
    if let failure { throw failure }
  }
}
