// Memory that mappings are made of. It lives as long as this process.

internal import Glibc
internal import Host
internal import SystemPackage

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
    guard let length = Int(exactly: size), length > 0 else {
      throw .usage("a buffer cannot have \(size) bytes")
    }
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
