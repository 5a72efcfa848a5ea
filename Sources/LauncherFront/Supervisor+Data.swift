// read, write and mmap. The kernel gives vectors to a file without read_iter one piece at a time
// (fs: do_loop_readv_writev()), and so do we.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension Supervisor {
  private struct Piece {
    let address: UInt64
    let count: Int
  }

  /// RWF_HIPRI, the only flag that a file without read_iter takes.
  private static let highPriority: UInt32 = 1

  /// MAX_RW_COUNT: longer transfers are cut.
  private static let mostBytes = 0x7fff_f000

  /// pread and its relatives, by the offset known to be meant for a device region.
  func transferAtOffset(_ call: TrappedCall) throws(Errno) -> Answer {
    // preadv2(2): -1 is the position.
    if call.operation.hasFlags, call.offset(3) == .max { return try transferOfQueue(call) }
    return try withEntry(for: call) { (entry, client) throws(Errno) in
      // A queue has no position; the carrier says ESPIPE natively.
      guard entry.queue == nil else { return .native }
      return try transfer(call, of: entry, from: call.offset(3), client)
    }
  }

  /// read and its relatives on a high descriptor number. A device's own descriptor may have been
  /// moved there; it is read where it would be below.
  func transferOfQueue(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      if let position = entry.position { return try transfer(call, of: entry, position, client) }
      guard let queue = entry.queue else { return .native }
      defer { queue.settle(entry.file, descriptor: call.descriptor(0), of: call.task) }
      return try transfer(call, of: entry, from: 0, client)
    }
  }

  /// lseek of what a device has made. Where the file has none, its carrier gives the right answer.
  func seek(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      guard entry.file.hasSeek else { return .native }
      let offset =
        call.architecture == .i386
        ? Int64(Int32(bitPattern: call.word(1))) : Int64(bitPattern: call[1])
      return .value(try entry.file.seek(offset, from: Int32(bitPattern: call.word(2))))
    }
  }

  /// fcntl(F_GETFL) of what a device has made, where a carrier cannot have its flags.
  func statusFlags(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      let flags = entry.file.descriptorFlags & DescriptorFlags.status
      guard entry.queue != nil, flags != DescriptorFlags.standard & DescriptorFlags.status else {
        return .native
      }
      return .value(Int64(flags))
    }
  }

  /// read and its relatives on a virtual file, which has a position.
  private func transfer(
    _ call: TrappedCall, of entry: OpenEntry, _ position: FilePosition,
    _ client: LauncherClient
  ) throws(Errno) -> Answer {
    let start = position.offset.withLock { $0 }
    let answer = try transfer(call, of: entry, from: start, client)
    if case .value(let count) = answer { position.offset.withLock { $0 = start &+ UInt64(count) } }
    return answer
  }

  private func transfer(
    _ call: TrappedCall, of entry: OpenEntry, from start: UInt64, _ client: LauncherClient
  ) throws(Errno) -> Answer {
    // fs: vfs_read() and vfs_readv(), in their order.
    guard call.operation.isWrite ? entry.file.hasWrite : entry.file.hasRead else {
      throw .invalidArgument
    }
    let pieces = try pieces(of: call, client)
    if pieces.isEmpty { return .value(0) }
    if call.operation.hasFlags, call.word(5) & ~Self.highPriority != 0 { throw .notSupported }
    var done = 0
    for piece in pieces {
      let buffer = UserBuffer(memory: client, address: piece.address, count: piece.count)
      let count: Int
      do {
        let offset = start &+ UInt64(done)
        count = try injecting(into: call) { () throws(Errno) in
          call.operation.isWrite
            ? try entry.file.write(from: buffer, at: offset)
            : try entry.file.read(into: buffer, at: offset)
        }
      } catch {
        if done > 0 { break }
        throw error
      }
      done += count
      if count < piece.count { break }
    }
    return .value(Int64(done))
  }

  /// What the file is asked for, a piece at a time. A vector without bytes asks for nothing; in another one
  /// an empty piece counts only when it is the first.
  /// - Throws: `.badAddress` also for what is beyond the process's memory, before the file is asked.
  private func pieces(of call: TrappedCall, _ client: LauncherClient) throws(Errno) -> [Piece] {
    guard call.operation.isVectored else {
      let count = call[2]
      guard isUserRange(call[1], count) else { throw .badAddress }
      return [Piece(address: call[1], count: Int(min(count, UInt64(Self.mostBytes))))]
    }
    let count = call[2]
    if count > UInt64(UIO_MAXIOV) { throw .invalidArgument }
    var left = Self.mostBytes
    var pieces: [Piece] = []
    for index in 0..<count {
      let piece = try vectorElement(index, of: call, client)
      pieces.append(Piece(address: piece.address, count: min(piece.count, left)))
      left -= min(piece.count, left)
    }
    guard pieces.allSatisfy({ isUserRange($0.address, UInt64($0.count)) }) else {
      throw .badAddress
    }
    guard pieces.contains(where: { $0.count > 0 }) else { return [] }
    return pieces.prefix(1) + pieces.dropFirst().filter { $0.count > 0 }
  }

  /// access_ok(): looked at before the file is asked, so it counts also where nothing is copied.
  private func isUserRange(_ address: UInt64, _ count: UInt64) -> Bool {
    let (end, overflow) = address.addingReportingOverflow(count)
    return !overflow && end <= Self.endOfUserSpace
  }

  /// TASK_SIZE_MAX; on x86-64 with five levels of page tables, as the reference kernel ran.
  #if arch(arm64)
    private static let endOfUserSpace: UInt64 = 1 << 48
  #else
    private static let endOfUserSpace: UInt64 = (1 << 56) - 4096
  #endif

  private func vectorElement(
    _ index: UInt64, of call: TrappedCall, _ client: LauncherClient
  ) throws(Errno) -> Piece {
    let word = UInt64(call.architecture.wordSize)
    let (address, overflow) = call[1].addingReportingOverflow(index * 2 * word)
    if overflow { throw .badAddress }
    if word == 4 {
      let (base, count) = (
        try client.load(UInt32.self, at: address), try client.load(UInt32.self, at: address &+ 4)
      )
      if count > UInt32(Int32.max) { throw .invalidArgument }
      return Piece(address: UInt64(base), count: Int(count))
    }
    let (base, count) = (
      try client.load(UInt64.self, at: address), try client.load(UInt64.self, at: address &+ 8)
    )
    if count > UInt64(Int.max) { throw .invalidArgument }
    return Piece(address: base, count: Int(count))
  }

  /// A mapping of a device. Where the device has a region, the kernel maps the carrier.
  ///
  /// Between our answer and the mapping, another thread of the program can make the number mean
  /// another file. That concerns nobody but itself.
  func map(_ call: TrappedCall) throws(Errno) -> Answer {
    guard let request = MappingRequest(call),
      let entry = try? files.begin(call.descriptor(4), of: call.task)
    else { return .native }
    defer { files.end(entry) }
    let region = try entry.file.region(for: request)
    try region.place(in: entry.identity) { () throws(Errno) in
      let carrier = try call.task.duplicateDescriptor(call.descriptor(4))
      guard try CarrierIdentity(of: carrier) == entry.identity else { throw .badFileDescriptor }
      try Carrier.fill(carrier, with: region)
      guard region.isShared else { return nil }
      let own = try Carrier.reopen(carrier)
      try files.share(entry, through: own)
      return try SharedPages(of: own, at: region.offset, length: region.length)
    }
    return .native
  }
}

extension MappingRequest {
  /// Nil for what the kernel refuses whatever the file is (mm: ksys_mmap_pgoff(), do_mmap()).
  init?(_ call: TrappedCall) {
    let flags = Int32(bitPattern: call.word(3))
    let type = flags & Self.typeMask
    let offset = call.architecture == .i386 ? UInt64(call.word(5)) << 12 : call[5]
    guard call[1] > 0, call[1] <= Self.mostBytes, offset % 4096 == 0, 1...3 ~= type,
      flags & MAP_HUGETLB == 0
    else { return nil }
    self.init(
      offset: offset, length: (call[1] + 4095) & ~4095, isShared: type != MAP_PRIVATE,
      isExecutable: call.word(2) & UInt32(PROT_EXEC) != 0)
  }

  /// MAP_TYPE
  private static let typeMask: Int32 = 0xf
  /// No address space is larger.
  private static let mostBytes: UInt64 = 1 << 57
}

extension Operation {
  fileprivate var isWrite: Bool {
    switch self {
    case .pwrite, .pwritev, .pwritev2, .write, .writev: true
    default: false
    }
  }

  fileprivate var hasFlags: Bool { self == .preadv2 || self == .pwritev2 }

  fileprivate var isVectored: Bool {
    switch self {
    case .preadv, .preadv2, .pwritev, .pwritev2, .readv, .writev: true
    default: false
    }
  }
}
