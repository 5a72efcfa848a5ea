// The descriptors and memory that commands work on. A command line makes a session for one command;
// a script makes one for all its lines.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

final class Session {
  /// The nodes tried in turn when no descriptor and no node is given.
  static let defaultNodes = ["/dev/iommufd-sim", "/dev/iommu"]

  private let node: String?
  private var iommufd: Int32?
  /// Buffers by address, so that buffer commands cannot touch anything else of this process.
  private var buffers: [UInt64: UnsafeMutableRawBufferPointer] = [:]

  init(descriptor: Int32?, node: String?) {
    iommufd = descriptor
    self.node = node
  }

  /// The iommufd, opened at its first use.
  func iommufdDescriptor() throws(Failure) -> Int32 {
    if let iommufd { return iommufd }
    let path =
      node ?? Self.defaultNodes.first { access($0, F_OK) == 0 } ?? Self.defaultNodes[1]
    let opened = try open(path)
    iommufd = opened
    return opened
  }

  /// Opens a node for reading and writing.
  func open(_ path: String) throws(Failure) -> Int32 {
    let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw .call("open \(path)", Errno(rawValue: errno)) }
    return descriptor
  }

  private func target(_ descriptor: Int32?) throws(Failure) -> Int32 {
    if let descriptor { return descriptor }
    return try iommufdDescriptor()
  }

  /// Issues the ioctl with number `number` of iommufd's and VFIO's type on `argument`.
  /// - Parameter descriptor: the iommufd when nil.
  /// - Returns: the call's result.
  @discardableResult
  func ioctl<Argument>(
    _ name: String, _ number: some BinaryInteger, _ argument: inout Argument,
    on descriptor: Int32? = nil
  ) throws(Failure) -> Int32 {
    var failure: Failure?
    var result: Int32 = 0
    let target = try self.target(descriptor)
    withUnsafeMutableBytes(of: &argument) { bytes in
      do throws(Failure) {
        result = try issue(name, number, UInt(bitPattern: bytes.baseAddress), on: target)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return result
  }

  /// As ``ioctl(_:_:_:on:)``, for arguments that are plain numbers or variable-length structs.
  @discardableResult
  func issue(
    _ name: String, _ number: some BinaryInteger, _ argument: UInt, on descriptor: Int32? = nil
  ) throws(Failure) -> Int32 {
    let request = IoctlNumber.io(
      type: IoctlNumber.vfioType, number: UInt8(truncatingIfNeeded: number))
    let result = CLinux_ioctl(
      try target(descriptor), UInt(request.rawValue), UInt64(argument))
    guard result >= 0 else { throw .call(name, Errno(rawValue: -result)) }
    return result
  }
}

// MARK: Buffers

extension Session {
  /// Address of the memory to map: a buffer made before, or new private memory.
  func memory(at address: Number?, size: Number) throws(Failure) -> UInt64 {
    if let address { return address.value }
    return try makeBuffer(size: size.value, shared: false).address
  }

  /// Zeroed memory of this process for a mapping: private, or a shared memfd.
  func makeBuffer(
    size: UInt64, shared: Bool
  ) throws(Failure) -> (address: UInt64, descriptor: Int32?) {
    guard let length = Int(exactly: size), length > 0 else { throw .usage("bad size \(size)") }
    var descriptor: Int32 = -1
    if shared {
      do throws(Errno) {
        descriptor = try MemoryFile.create(name: "iommufdctl", length: size)
      } catch {
        throw .call("memfd_create", error)
      }
    }
    let flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS
    let address = mmap(nil, length, PROT_READ | PROT_WRITE, flags, descriptor, 0)
    guard let address, address != MAP_FAILED else { throw .call("mmap", Errno(rawValue: errno)) }
    let key = UInt64(UInt(bitPattern: address))
    buffers[key] = UnsafeMutableRawBufferPointer(start: address, count: length)
    return (key, shared ? descriptor : nil)
  }

  /// `length` bytes of a buffer made by ``makeBuffer(size:shared:)``, from its start plus `offset`.
  func buffer(
    at address: UInt64, offset: UInt64, length: UInt64
  ) throws(Failure) -> UnsafeMutableRawBufferPointer {
    guard let buffer = buffers[address] else {
      throw .usage("no buffer at 0x\(String(address, radix: 16)): make one with `buffer`")
    }
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard !overflow, end <= UInt64(buffer.count) else {
      throw .usage("the buffer has \(buffer.count) bytes, \(offset)+\(length) lies outside")
    }
    return UnsafeMutableRawBufferPointer(rebasing: buffer[Int(offset)..<Int(end)])
  }
}
