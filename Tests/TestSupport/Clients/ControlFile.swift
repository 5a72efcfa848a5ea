// SPDX-License-Identifier: Apache-2.0

// An open /dev/iommu of a test.

package import IOMMU
package import IOMMUFD
package import SystemPackage
package import UAPI

package final class ControlFile: Sendable {
  package let client: InProcessClient
  package let number: Int32
  package let memory: PhysicalMemory

  package init(
    client: InProcessClient = InProcessClient(), memory: PhysicalMemory? = nil,
    hasSelftest: Bool = false
  ) throws {
    self.client = client
    self.memory =
      try memory
      ?? PhysicalMemory(.test, shouldFailAllocation: { FaultInjection.shouldFail() })
    let selftest = hasSelftest ? Selftest(memory: self.memory) : nil
    number = try client.open(IOMMUFDDevice(memory: self.memory, selftest: selftest))
  }

  package var context: Context {
    get throws {
      let context = try Context.of(descriptor: number, client: client)
      context.release()
      return context
    }
  }

  package func close() { client.close(number) }

  /// Issues ioctl(2).
  @discardableResult
  package func call(_ request: Ioctl, _ argument: UInt64) -> Result<Int32, Errno> {
    call(request.number.rawValue, argument)
  }

  @discardableResult
  package func call(_ request: UInt32, _ argument: UInt64) -> Result<Int32, Errno> {
    guard let file = client.file(number) else { return .failure(.badFileDescriptor) }
    do throws(Errno) {
      return .success(try file.ioctl(request, argument: argument, client: client))
    } catch {
      return .failure(error)
    }
  }

  /// Issues ioctl(2) with a struct, which is read back also after a failure.
  /// - Returns: The errno, or `nil`.
  @discardableResult
  package func call<T: BitwiseCopyable>(
    _ request: Ioctl, _ argument: inout T
  ) -> Errno? {
    let memory = TestMemory()
    memory.store(argument)
    let result = call(request, memory.address)
    argument = memory.load(T.self)
    if case .failure(let error) = result { return error }
    return nil
  }
}
