// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import SystemPackage
internal import UAPI

/// The arguments of open(2), openat(2), openat2(2) or creat(2).
struct OpenRequest {
  /// The address of the path.
  let path: UInt64
  let directory: Int32
  /// The bytes of a struct open_how, as many as the program has passed to openat2(2).
  let how: [UInt8]

  private static let howSize = 24
  private static let pageSize = 4096

  /// - Returns: `nil` for other calls, and when the arguments cannot be read: the kernel then
  ///   answers with the right errno.
  init?(_ call: TrappedCall, memory: some UserMemory) {
    switch call.systemCall {
    case .creat:
      directory = AT_FDCWD
      path = call[0]
      how = Self.how(flags: UInt32(O_CREAT | O_WRONLY | O_TRUNC), mode: call.word(1))
    case .open:
      directory = AT_FDCWD
      path = call[0]
      how = Self.how(flags: call.word(1), mode: call.word(2))
    case .openat2:
      directory = call.descriptor(0)
      path = call[1]
      // The kernel refuses other sizes before it reads the struct and the path.
      guard Self.howSize...Self.pageSize ~= Int(clamping: call[3]),
        let bytes: [UInt8] = try? memory.loadArray(Int(call[3]), at: call[2])
      else { return nil }
      how = bytes
    case .openat:
      directory = call.descriptor(0)
      path = call[1]
      how = Self.how(flags: call.word(2), mode: call.word(3))
    default:
      return nil
    }
  }

  /// The struct that open(2) stands for: build_open_how() drops unknown flags, and the mode of a
  /// call that creates no file.
  private static func how(flags: UInt32, mode: UInt32) -> [UInt8] {
    let known = flags & 0x7fff_ffff & OpenModel.validFlags
    let creates = known & UInt32(O_CREAT) != 0 || known & OpenModel.temporary != 0
    return words([UInt64(known), creates ? UInt64(mode & 0o7777) : 0, 0])
  }

  private static func words(_ words: [UInt64]) -> [UInt8] {
    words.withUnsafeBytes { Array($0) }
  }

  private func word(_ index: Int) -> UInt64 {
    how.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self) }
  }

  var flags: UInt64 { word(0) }
  /// RESOLVE_… flags.
  var resolve: UInt64 { word(2) }

  /// Whether the struct has none but these flags.
  func hasOnlyFlags(_ known: UInt64) -> Bool {
    how.count == Self.howSize && flags & ~known == 0 && word(1) == 0 && resolve == 0
  }

  private func has(_ flag: Int32) -> Bool { flags & UInt64(UInt32(bitPattern: flag)) != 0 }

  var isPathOnly: Bool { has(Int32(OpenModel.pathOnly)) }
  var closesOnExec: Bool { has(O_CLOEXEC) }
  var creates: Bool { has(O_CREAT) || has(Int32(OpenModel.temporary)) }

  /// Whether a symbolic link at the end of the path is followed. It is not for a new file with
  /// O_EXCL.
  var followsLast: Bool { !has(O_NOFOLLOW) && !(has(O_CREAT) && has(O_EXCL)) }
}

/// What the kernel says about the flags of an open. The kernel itself answers: the model is an open
/// of another file of the same type with the same flags, which has no effect.
enum OpenModel {
  /// VALID_OPEN_FLAGS of include/linux/fcntl.h.
  static let validFlags: UInt32 =
    UInt32(
      O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC
        | O_ASYNC | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) | direct | largeFile | noAccessTime
    | pathOnly | temporary
  #if arch(arm64)
    static let direct: UInt32 = 0o200000
    static let largeFile: UInt32 = 0o400000
  #else
    static let direct: UInt32 = 0o40000
    static let largeFile: UInt32 = 0o100000
  #endif
  private static let noAccessTime: UInt32 = 0o1000000
  /// O_PATH
  static let pathOnly: UInt32 = 0o10000000
  /// __O_TMPFILE
  static let temporary: UInt32 = 0o20000000

  /// The flags that fcntl(F_GETFL) shows after the open of a character device.
  /// - Throws: the errno of an open with these flags.
  static func statusFlagsOfDevice(_ request: OpenRequest) throws(Errno) -> Int32 {
    // Every combination of these flags is valid, so nearly no open needs the model.
    let plain = UInt64(UInt32(O_ACCMODE | O_NONBLOCK | O_CLOEXEC | O_NOCTTY))
    guard request.hasOnlyFlags(plain) else { return try statusFlags(request, of: "/dev/null") }
    return Int32(truncatingIfNeeded: request.flags) & (O_ACCMODE | O_NONBLOCK) | Int32(largeFile)
  }

  /// As ``statusFlagsOfDevice(_:)``, for another type of file.
  /// - Parameter path: of the model.
  /// - Throws: the errno of an open with these flags.
  static func statusFlags(_ request: OpenRequest, of path: String) throws(Errno) -> Int32 {
    let result = request.how.withUnsafeBytes {
      CLinux_open_model(path, $0.baseAddress, $0.count)
    }
    if result == -ENOENT || result == -ENOSYS {
      // Without the model or openat2(2) (before Linux 5.6) the flags are taken as they are.
      return Int32(truncatingIfNeeded: request.flags) & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC)
    }
    guard result >= 0 else { throw Errno(rawValue: -result) }
    return result
  }
}
