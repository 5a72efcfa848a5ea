// SPDX-License-Identifier: Apache-2.0

// Operations of the selftest interface that use an access, as a kernel driver does.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

enum AccessOperations {
  /// The length of the longest range of an operation.
  private static let lengthLimit: UInt64 = 16 << 20

  fileprivate struct Flags: OptionSet {
    let rawValue: UInt32

    static let needsPins = Flags(
      rawValue: UInt32(MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES))
    static let write = Flags(rawValue: UInt32(MOCK_ACCESS_RW_WRITE))
    static let slowPath = Flags(rawValue: UInt32(MOCK_ACCESS_RW_SLOW_PATH))
    static let numbered = Flags(rawValue: NumberedAreas.flag)
  }

  // MARK: Accesses

  /// CREATE_ACCESS. selftest.c: iommufd_test_create_access()
  static func create(_ command: inout TestCommand) throws(Errno) {
    let flags = Flags(rawValue: command.arguments.create_access.flags)
    guard flags.isSubset(of: .needsPins) else { throw .notSupported }
    let file = AccessFile(in: command.context, canPin: flags.contains(.needsPins))
    var answer = command
    do throws(Errno) {
      try command.client.install(file) { (number: Int32) throws(Errno) in
        try file.open(ObjectID(answer.arguments.id))
        answer.arguments.create_access.out_access_fd = UInt32(bitPattern: number)
        try answer.respond()
      }
    } catch {
      file.release()
      throw error == .tooManyOpenFiles ? .noMemory : error
    }
  }

  /// ACCESS_REPLACE_IOAS. selftest.c: iommufd_test_access_replace_ioas()
  static func replaceIOAS(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments
    let file = try AccessFile.of(arguments.id, command.client)
    let context = file.context
    try context.lock.withLock { () throws(Errno) in
      let access = try file.openAccess()
      try access.attach(to: try context.ioas(ObjectID(arguments.access_replace_ioas.ioas_id)))
    }
  }

  // MARK: Pins

  /// ACCESS_PAGES. selftest.c: iommufd_test_access_pages()
  static func pin(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments.access_pages
    let flags = Flags(rawValue: arguments.flags)
    guard arguments.length <= lengthLimit else { throw .noMemory }
    guard flags.isSubset(of: [.write, .numbered]) else { throw .notSupported }
    let client = command.client
    let file = try AccessFile.of(command.arguments.id, client)
    guard file.canPin else { throw .notSupported }
    let pages = CallerPages(client, file.context.memory)
    let number = try file.context.lock.withLock { () throws(Errno) in
      let iova = try file.openAccess().iova(arguments.iova, flags)
      return try file.pin(
        iova, length: arguments.length, forWriting: flags.contains(.write), client: client
      ) { frames throws(Errno) in
        if arguments.uptr != 0 {
          try pages.require(frames, at: arguments.uptr &- (iova.rawValue & 4095))
        }
      }
    }
    command.arguments.access_pages.out_access_pages_id = number
    do throws(Errno) {
      try command.respond()
    } catch {
      // Fails when an unmap has unpinned the item meanwhile.
      file.context.lock.withLock { try? file.unpin(number) }
      throw error
    }
  }

  /// DESTROY_ACCESS_PAGES. selftest.c: iommufd_test_access_item_destroy()
  static func unpin(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments
    let file = try AccessFile.of(arguments.id, command.client)
    try file.context.lock.withLock { () throws(Errno) in
      try file.unpin(arguments.destroy_access_pages.access_pages_id)
    }
  }

  // MARK: Copies

  /// ACCESS_RW. selftest.c: iommufd_test_access_rw()
  static func copy(_ command: inout TestCommand) throws(Errno) {
    let arguments = command.arguments.access_rw
    let flags = Flags(rawValue: arguments.flags)
    guard arguments.length <= lengthLimit else { throw .noMemory }
    guard flags.isSubset(of: [.write, .slowPath, .numbered]) else { throw .notSupported }
    let client = command.client
    let file = try AccessFile.of(command.arguments.id, client)
    try FaultInjection.step()
    var failure: Errno?
    withUnsafeTemporaryAllocation(byteCount: Int(arguments.length), alignment: 16) { buffer in
      // The buffer must not leak memory of the server where no page is read.
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      do throws(Errno) {
        if flags.contains(.write) { try client.copyIn(from: arguments.uptr, into: buffer) }
        let (access, iova) = try file.context.lock.withLock { () throws(Errno) in
          let access = try file.openAccess()
          return (access, access.iova(arguments.iova, flags))
        }
        try access.copy(
          flags.contains(.write) ? .source(.init(buffer)) : .destination(buffer), at: iova,
          directly: !flags.contains(.slowPath), client: client)
        if !flags.contains(.write) { try client.copyOut(.init(buffer), to: arguments.uptr) }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }
}

extension Access {
  /// selftest.c: iommufd_test_syz_conv_iova()
  fileprivate func iova(_ iova: UInt64, _ flags: AccessOperations.Flags) -> IOVA {
    guard flags.contains(.numbered) else { return IOVA(iova) }
    return ioas.map { NumberedAreas.iova(iova, in: $0) } ?? IOVA(0)
  }
}

extension CallerPages {
  /// selftest.c: iommufd_test_check_pages()
  /// - Throws: `.badAddress`; EBADE when the caller's pages at `address` are not the frames of
  ///   `runs`.
  fileprivate func require(_ runs: [FrameRun], at address: UInt64) throws(Errno) {
    let expected = runs.flatMap(\.frames)
    let start = address & ~4095
    let (end, overflow) = start.addingReportingOverflow(UInt64(expected.count) << 12)
    guard !overflow else {
      _ = try frames(from: start, count: 1)
      throw .badAddress
    }
    var done = 0
    while done < expected.count {
      let found = try frames(from: start + UInt64(done) << 12, to: end)
      for frame in found {
        guard try isPage(expected[done], at: start + UInt64(done) << 12, found: frame) else {
          throw .invalidExchange
        }
        done += 1
      }
    }
  }
}

extension Errno {
  /// EBADE.
  fileprivate static let invalidExchange = Errno(rawValue: 52)
}
