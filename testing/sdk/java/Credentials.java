import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;

/**
 * Resolves credentials with the default chain of AWS's SDK for Java.
 * Prints one line: {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ...}.
 */
public class Credentials {
    public static void main(String[] arguments) {
        try (DefaultCredentialsProvider provider = DefaultCredentialsProvider.builder().build()) {
            AwsSessionCredentials credentials = (AwsSessionCredentials) provider.resolveCredentials();
            System.out.printf(
                    "{\"accessKeyId\": \"%s\", \"secretAccessKey\": \"%s\", \"sessionToken\": \"%s\"}%n",
                    credentials.accessKeyId(), credentials.secretAccessKey(), credentials.sessionToken());
        }
    }
}
